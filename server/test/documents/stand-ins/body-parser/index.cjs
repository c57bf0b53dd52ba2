'use strict';
/** As much of body-parser as the requirement documents' printed code uses. */
module.exports = { json: require('express').json };

const express = require('express');
const bodyParser = require('body-parser');
const crypto = require('crypto');

const app = express();
app.use(bodyParser.json());

// Webhook secret from registration
const webhookSecret = 'your_webhook_secret';

// Verify webhook signature
function verifySignature(payload, signature) {
  const hmac = crypto.createHmac('sha256', webhookSecret);
  hmac.update(JSON.stringify(payload));
  const computedSignature = hmac.digest('hex');
  return crypto.timingSafeEqual(
    Buffer.from(computedSignature),
    Buffer.from(signature)
  );
}

app.post('/webhooks/isp', (req, res) => {
  const signature = req.headers['x-webhook-signature'];
  const event = req.headers['x-webhook-event'];
  const payload = req.body;
  
  console.log(`Received webhook: ${event}`);
  
  // Verify signature if secret is set
  if (webhookSecret && signature) {
    if (!verifySignature(payload, signature)) {
      console.error('Invalid webhook signature');
      return res.status(401).json({ error: 'Invalid signature' });
    }
  }
  
  // Process the webhook based on event type
  switch (event) {
    case 'message.created':
      console.log(`New message: ${payload.subject}`);
      break;
    case 'notification.created':
      console.log(`New notification: ${payload.title}`);
      break;
    // Handle other event types
    default:
      console.log(`Unhandled event type: ${event}`);
  }
  
  // Acknowledge receipt
  res.status(200).json({ status: 'success' });
});

app.listen(3000, () => {
  console.log('Webhook receiver listening on port 3000');
});

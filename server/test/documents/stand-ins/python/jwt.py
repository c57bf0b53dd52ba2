"""As much of PyJWT as call-center.md's printed code uses: `decode` of an HS256 token, and `InvalidTokenError`."""

import base64
import hashlib
import hmac
import json
import time


class InvalidTokenError(Exception):
    pass


def _bytes(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def decode(token, secret, algorithms):
    try:
        head, claims, signature = token.split(".")
        algorithm = json.loads(_bytes(head))["alg"]
        payload = json.loads(_bytes(claims))
    except (ValueError, KeyError) as error:
        raise InvalidTokenError("not a token") from error
    if algorithm not in algorithms or algorithm != "HS256":
        raise InvalidTokenError("the algorithm is not allowed")
    expected = hmac.new(secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(expected, _bytes(signature)):
        raise InvalidTokenError("the signature is wrong")
    if payload.get("exp", time.time() + 1) <= time.time():
        raise InvalidTokenError("the token has expired")
    return payload

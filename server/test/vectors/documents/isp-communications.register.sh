curl -X POST "https://api.example.com/api/communications/webhooks/" \
  -H "Authorization: Bearer YOUR_ACCESS_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Customer Portal Webhook",
    "url": "https://portal.example.com/webhooks/isp",
    "events": ["message.created", "notification.created"],
    "is_active": true,
    "secret": "your_webhook_secret",
    "headers": {
      "X-Custom-Header": "Custom Value"
    },
    "description": "Webhook for the customer portal"
  }'

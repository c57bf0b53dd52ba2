# Start the backend server
cd backend && python -m uvicorn app.main:app --reload --host 0.0.0.0 --port 8000

# Run integration tests
python test_webhook_integration.py

# Test specific webhook
curl -X POST http://localhost:8000/api/v1/webhooks \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer YOUR_TOKEN" \
  -d '{
    "name": "My Webhook",
    "url": "https://your-webhook-endpoint.com/webhook",
    "secret": "your-secret-key",
    "events": ["customer.created", "invoice.paid"],
    "is_active": true
  }'

curl -X POST https://your-domain.com/api/webhooks/receive \
  -H "Content-Type: application/json" \
  -d '{
    "event": "ticket.create",
    "data": {
      "subject": "Test Ticket",
      "message": "This is a test",
      "customer_email": "test@example.com"
    }
  }'

# Test webhook endpoint
curl -X POST http://localhost:8019/endpoints/test \
  -H "Content-Type: application/json" \
  -d '{"test": true, "timestamp": "2025-08-05T18:00:00Z"}'

# Publish test event
curl -X POST http://localhost:8019/events/publish \
  -H "Content-Type: application/json" \
  -d '{
    "event_type": "lead.created",
    "payload": {
      "lead": {"id": "test_123", "name": "Test Lead"}
    }
  }'

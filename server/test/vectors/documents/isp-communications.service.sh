curl -X POST "https://api.example.com/api/communications/external-services/" \
  -H "Authorization: Bearer YOUR_ACCESS_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Company Email Service",
    "service_type": "email",
    "provider": "sendgrid",
    "config": {
      "api_key": "your_sendgrid_api_key",
      "from_email": "noreply@example.com",
      "from_name": "Example ISP"
    },
    "is_active": true,
    "description": "Email service for customer communications"
  }'

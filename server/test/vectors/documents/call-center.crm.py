# Create webhook endpoint for CRM sync
webhook_endpoint = {
    "name": "Salesforce Lead Sync",
    "url": "https://api.salesforce.com/webhooks/leads",
    "events": ["lead.created", "lead.updated", "lead.converted"],
    "http_method": "POST",
    "secret": "salesforce_webhook_secret",
    "signature_method": "hmac_sha256",
    "custom_headers": {
        "Authorization": "Bearer sf_token_123",
        "X-Source": "Vocelio"
    },
    "transformation": {
        "enabled": true,
        "template": "salesforce_lead_template"
    }
}

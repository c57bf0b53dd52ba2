# Create Slack notification webhook
slack_webhook = {
    "name": "Slack Alerts",
    "url": "https://hooks.slack.com/services/T123/B456/xyz",
    "events": ["system.health_alert", "system.error"],
    "transformation": {
        "enabled": true,
        "template": {
            "text": "🚨 Alert: {{ event_type }}",
            "attachments": [{
                "color": "danger",
                "fields": [{
                    "title": "Event",
                    "value": "{{ event_type }}",
                    "short": true
                }, {
                    "title": "Time",
                    "value": "{{ timestamp }}",
                    "short": true
                }]
            }]
        }
    }
}

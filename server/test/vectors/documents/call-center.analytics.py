# Real-time analytics webhook
analytics_webhook = {
    "name": "Analytics Dashboard",
    "url": "https://dashboard.vocelio.com/api/events",
    "events": [
        "call.ended", 
        "lead.converted", 
        "appointment.completed"
    ],
    "rate_limit_per_minute": 100,
    "transformation": {
        "enabled": true,
        "template": {
            "metric_type": "{{ event_type }}",
            "value": 1,
            "timestamp": "{{ timestamp }}",
            "dimensions": {
                "agent_id": "{{ data.agent.id }}",
                "source": "vocelio"
            }
        }
    }
}

"""What isp-framework.md says of its test script: registration, the way of an event, and the lives of customers, bills,
services and tickets. API and KEY say where; it ends with 1 when something is not as it should be."""
import hashlib, hmac, json, os, queue, threading, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "integration-secret"
received = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        valid = hmac.compare_digest(signature, self.headers["x-webhook-signature"])
        received.put((self.headers["x-webhook-event"], valid, json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


def call(method, path, body=None):
    headers = {"Authorization": "Bearer " + os.environ["KEY"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["API"] + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response) if response.status != 204 else None


def life(name, events):
    """Publishes one event after the other, and sees each arrive, signed and as it was published."""
    for event_type, data in events:
        published = call("POST", "/api/v1/events", {"event_type": event_type, "data": data})
        assert published["deliveries"] == 1, published
        arrived, valid, body = received.get(timeout=20)
        assert arrived == event_type and valid, (event_type, arrived, valid)
        assert body["event_type"] == event_type and body["data"] == data and body["event_id"] == published["id"], body
    print("ok:", name)


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
webhook = call("POST", "/api/v1/webhooks", {
    "name": "Integration",
    "url": f"http://127.0.0.1:{server.server_port}/webhook",
    "secret": SECRET,
    "events": ["*"],
})
assert call("GET", "/api/v1/webhooks/" + webhook["id"])["is_active"] is True
print("ok: registration")
assert call("POST", f"/api/v1/webhooks/{webhook['id']}/test")["is_success"] is True
assert received.get(timeout=20)[1]
print("ok: test send")

customer = {"id": 123, "portal_id": "100123", "full_name": "John Doe", "email": "john@example.com"}
service = {"id": 7, "customer_id": 123, "tariff": "Fibre 100"}
bill = {"id": 55, "customer_id": 123, "total": "39.90"}
ticket = {"id": 9, "customer_id": 123, "subject": "No connection"}
life("customer lifecycle", [
    ("customer.created", customer),
    ("customer.updated", {**customer, "email": "doe@example.com"}),
    ("customer.service.created", service),
    ("customer.service.updated", {**service, "tariff": "Fibre 500"}),
    ("customer.services.overview", {"customer_id": 123, "services": [service]}),
])
life("billing workflow", [
    ("invoice.created", bill),
    ("invoice.overdue", {**bill, "days": 14}),
    ("payment.processed", {"id": 3, "amount": "39.90"}),
    ("invoice.paid", {**bill, "payment_id": 3}),
])
life("service provisioning", [
    ("service.activated", service),
    ("service.suspended", {**service, "reason": "unpaid"}),
    ("service.activated", service),
    ("service.terminated", service),
])
life("ticketing system", [
    ("ticket.created", ticket),
    ("ticket.assigned", {**ticket, "agent": "sarah"}),
    ("ticket.updated", {**ticket, "priority": "high"}),
    ("ticket.status_changed", {**ticket, "status": "in_progress"}),
    ("ticket.resolved", {**ticket, "status": "resolved"}),
])
life("network", [
    ("network.site.created", {"id": 1, "name": "North"}),
    ("network.device.created", {"id": 4, "site_id": 1}),
    ("network.device.down", {"id": 4}),
    ("network.device.up", {"id": 4}),
])
life("authentication", [("auth.login", {"user": "john"}), ("auth.failed", {"user": "john"}), ("auth.logout", {"user": "john"})])
life("end of the customer", [("customer.deleted", {"id": 123})])

deliveries = call("GET", f"/api/v1/webhooks/{webhook['id']}/deliveries?limit=250")["data"]
# All 25 types, one of them twice, and the test.
assert len({each["event_type"] for each in deliveries}) == 25 and len(deliveries) == 27, len(deliveries)
print("ok: deliveries")
call("DELETE", "/api/v1/webhooks/" + webhook["id"])
print("all is well")

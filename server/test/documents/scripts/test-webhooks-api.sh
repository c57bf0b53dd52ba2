#!/usr/bin/env bash
# What whatsapp-crm.md says of its test script: all webhook endpoints, a webhook's life, delivery, logs and statistics,
# deletion and cleanup. API, KEY and RECEIVER say where; it ends with 1 at the first thing that is not as it should be.
set -u

# step <what> <status> <method> <path> [body]: the answer is in $answer.
step() {
  answer=$(curl -sS -w '\n%{http_code}' -X "$3" "$API$4" -H "Authorization: Bearer $KEY" \
    -H 'Content-Type: application/json' ${5+-d "$5"})
  local status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  if [ "$status" != "$2" ]; then
    echo "FAILED: $1: $status in place of $2: $answer"
    exit 1
  fi
  echo "ok: $1"
}

# value <JavaScript of the answer>, such as .data[0].id
value() {
  node -e 'const a = JSON.parse(require("fs").readFileSync(0)); console.log(eval("a" + process.argv[1]))' "$1" <<<"$answer"
}

expect() {
  local found
  found=$(value "$1")
  if [ "$found" != "$2" ]; then
    echo "FAILED: $1 is $found in place of $2: $answer"
    exit 1
  fi
}

step 'lists the events' 200 GET /api/v1/webhooks/events
expect .data.length 22
step 'refuses an event that does not exist' 422 POST /api/v1/webhooks "{\"name\":\"Bad\",\"url\":\"$RECEIVER\",\"events\":[\"no.such\"]}"
step 'creates' 201 POST /api/v1/webhooks "{\"name\":\"Script\",\"url\":\"$RECEIVER\",\"events\":[\"message.new\"]}"
id=$(value .id)
step 'lists' 200 GET /api/v1/webhooks
expect '.data.map((each) => each.name).join()' Script
step 'gets' 200 GET "/api/v1/webhooks/$id"
expect .retry_count 3
step 'updates' 200 PATCH "/api/v1/webhooks/$id" '{"name":"Renamed","retry_count":1}'
step 'gets what was updated' 200 GET "/api/v1/webhooks/$id"
expect '.name + " " + a.retry_count' 'Renamed 1'
step 'tests with a sample' 200 POST "/api/v1/webhooks/$id/test" '{"event_type":"message.new"}'
expect .is_success true
step 'tests with a payload' 200 POST "/api/v1/webhooks/$id/test" '{"payload":{"text":"of the script"}}'
expect .is_success true
step 'publishes' 202 POST /api/v1/events '{"event_type":"message.new","data":{"text":"of the script"}}'
expect .deliveries 1
event=$(value .id)
for _ in $(seq 100); do
  step 'looks for the delivery' 200 GET "/api/v1/webhooks/deliveries?event_id=$event"
  [ "$(value '.data[0].status')" = delivered ] && break
done
expect '.data[0].status' delivered
step 'logs' 200 GET "/api/v1/webhooks/$id/logs"
expect '.data.filter((each) => each.is_success).length' 3
step 'statistics' 200 GET "/api/v1/webhooks/$id/stats"
expect '.total_deliveries + " " + a.success_rate' '3 100'
step 'deletes' 204 DELETE "/api/v1/webhooks/$id"
step 'finds it no more' 404 GET "/api/v1/webhooks/$id"
step 'lists none' 200 GET /api/v1/webhooks
expect .data.length 0
step 'publishes to nobody' 202 POST /api/v1/events '{"event_type":"message.new","data":{}}'
expect .deliveries 0
echo 'all is well'

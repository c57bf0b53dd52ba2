import { readdirSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { describe, expect, test } from 'vitest';
import { findPreset, type Preset, type PresetEventType, type PresetName, presets } from './presets.ts';

/** The event types each requirement document prints, in its order. */
const PRINTED_NAMES: Record<PresetName, string[]> = {
  standard: [],
  'isp-communications': [
    'message.created',
    'message.updated',
    'message.deleted',
    'notification.created',
    'notification.updated',
    'notification.deleted',
    'announcement.created',
    'announcement.updated',
    'announcement.deleted',
    'ticket.created',
    'ticket.updated',
    'ticket.response_added',
  ],
  'isp-framework': [
    'customer.created',
    'customer.updated',
    'customer.deleted',
    'customer.service.created',
    'customer.service.updated',
    'customer.services.overview',
    'invoice.created',
    'invoice.paid',
    'invoice.overdue',
    'payment.processed',
    'service.activated',
    'service.suspended',
    'service.terminated',
    'network.site.created',
    'network.device.created',
    'network.device.up',
    'network.device.down',
    'ticket.created',
    'ticket.updated',
    'ticket.status_changed',
    'ticket.assigned',
    'ticket.resolved',
    'auth.login',
    'auth.logout',
    'auth.failed',
  ],
  'call-center': [
    'call.started',
    'call.ended',
    'call.answered',
    'call.missed',
    'call.transferred',
    'call.recording_available',
    'lead.created',
    'lead.updated',
    'lead.converted',
    'lead.lost',
    'lead.assigned',
    'appointment.scheduled',
    'appointment.confirmed',
    'appointment.cancelled',
    'appointment.completed',
    'appointment.rescheduled',
    'appointment.reminder_sent',
    'agent.online',
    'agent.offline',
    'agent.busy',
    'agent.available',
    'agent.performance_updated',
    'campaign.started',
    'campaign.completed',
    'campaign.paused',
    'campaign.performance_updated',
    'notification.sent',
    'notification.delivered',
    'notification.clicked',
    'notification.failed',
    'system.health_alert',
    'system.maintenance',
    'system.error',
    'system.backup_completed',
    'crm.sync_completed',
    'crm.sync_failed',
    'api.rate_limit_exceeded',
    'api.error',
  ],
  'support-autoresponder': [
    'ticket.created',
    'ticket.updated',
    'ticket.resolved',
    'ticket.escalated',
    'ai.response.generated',
    'ai.response.requires_review',
    'ai.response.approved',
    'ai.response.rejected',
    'conversation.added',
    'feedback.received',
  ],
  'whatsapp-crm': [
    'message.new',
    'message.sent',
    'message.delivered',
    'message.read',
    'message.failed',
    'conversation.created',
    'conversation.updated',
    'conversation.assigned',
    'conversation.resolved',
    'conversation.closed',
    'contact.created',
    'contact.updated',
    'campaign.started',
    'campaign.completed',
    'campaign.failed',
    'flow.started',
    'flow.completed',
    'flow.failed',
    'automation.triggered',
    'automation.completed',
    'template.approved',
    'template.rejected',
  ],
};

const EVENT_TYPE_COUNTS: Record<PresetName, number> = {
  standard: 0,
  'isp-communications': 12,
  'isp-framework': 25,
  'call-center': 38,
  'support-autoresponder': 10,
  'whatsapp-crm': 22,
};

/** Envelope, signature method, user agent, timeout, and the waits between attempts without jitter. */
const DELIVERY: Record<PresetName, [string, string, string | null, number, number[]]> = {
  standard: ['standard', 'none', null, 15, [5, 300, 1800, 7200, 18000, 36000, 36000]],
  'isp-communications': ['flat', 'hmac_sha256_hex', null, 15, [5, 300, 1800, 7200, 18000, 36000, 36000]],
  'isp-framework': ['event_type', 'hmac_sha256_hex', null, 15, [5, 10]],
  'call-center': ['event_type', 'hmac_sha256', null, 15, [1, 2, 4, 8]],
  'support-autoresponder': [
    'event',
    'hmac_sha256_hex',
    'AI-Support-Autoresponder/1.0',
    15,
    [5, 300, 1800, 7200, 18000, 36000, 36000],
  ],
  'whatsapp-crm': ['event', 'hmac_sha256_hex', null, 30, [1, 2, 4]],
};

const ajv = new Ajv2020({ strict: true, allErrors: true });
formats.default(ajv);

const text = { type: 'string', minLength: 1 };
const headerName = { type: 'string', pattern: '^[A-Za-z][A-Za-z0-9-]*$' };
const delaySeconds = { type: 'number', exclusiveMinimum: 0, maximum: 86_400 };

/** What `Preset` promises, for the files themselves: a misspelt or superfluous key fails here. */
const PRESET_SHAPE = exactly({
  name: { type: 'string', enum: Object.keys(PRINTED_NAMES) },
  title: text,
  description: text,
  delivery: exactly({
    envelope: { type: 'string', enum: ['standard', 'event', 'event_type', 'flat', 'cloudevents', 'raw'] },
    user_agent: { type: ['string', 'null'], pattern: '^[!-~]+$' },
    event_header: headerName,
    signature: exactly(
      {
        standard: { type: 'boolean' },
        method: { type: 'string', enum: ['hmac_sha256_hex', 'hmac_sha256', 'hmac_sha1', 'none'] },
        header: headerName,
      },
      { body_spelling: { type: 'string', enum: ['published', 'json_stringify'] } },
    ),
    retry_policy: exactly(
      {
        enabled: { type: 'boolean' },
        max_attempts: { type: 'integer', minimum: 1, maximum: 50 },
        initial_delay_seconds: delaySeconds,
        max_delay_seconds: delaySeconds,
        backoff_multiplier: { type: 'number', minimum: 1 },
        jitter: { type: 'number', minimum: 0, maximum: 1 },
      },
      {
        retry_on_status_codes: { type: 'array', items: { type: 'integer', minimum: 300, maximum: 599 }, minItems: 1 },
        schedule_seconds: { type: 'array', items: delaySeconds, minItems: 1 },
      },
    ),
    timeout_seconds: { type: 'integer', minimum: 1, maximum: 60 },
  }),
  event_types: {
    type: 'array',
    items: exactly({
      name: text,
      group: text,
      description: text,
      schema: { type: 'object' },
      sample: { type: 'object' },
    }),
  },
});

describe('the registry', () => {
  test('holds every preset file of the folder and nothing else', () => {
    const files = readdirSync(import.meta.dirname).filter((file) => file.endsWith('.json'));
    expect([...presets.keys()].map((name) => `${name}.json`).sort()).toEqual(files.sort());
  });

  test('finds a preset by its name and nothing by any other text', () => {
    for (const [name, preset] of presets) expect(findPreset(name)).toBe(preset);
    for (const name of ['', 'Standard', 'standard.json', '../standard', '__proto__', 'constructor']) {
      expect(findPreset(name)).toBeUndefined();
    }
  });

  test('brings 107 event types', () => {
    const counts = Object.fromEntries([...presets].map(([name, preset]) => [name, preset.event_types.length]));
    expect(counts).toEqual(EVENT_TYPE_COUNTS);
    expect([...presets.values()].flatMap((preset) => preset.event_types)).toHaveLength(107);
  });

  test('cannot be changed by one tenant for another', () => {
    for (const preset of presets.values()) {
      visit(preset, (value) => expect(Object.isFrozen(value)).toBe(true));
    }
  });
});

describe.each([...presets])('%s', (name: PresetName, preset: Preset) => {
  test('has exactly the fields of a preset, within their limits', () => {
    const validate = ajv.compile(PRESET_SHAPE);
    validate(preset);
    expect(validate.errors ?? []).toEqual([]);
    expect(preset.name).toBe(name);
    const policy = preset.delivery.retry_policy;
    expect(policy.max_delay_seconds).toBeGreaterThanOrEqual(policy.initial_delay_seconds);
    if (policy.schedule_seconds) expect(policy.schedule_seconds).toHaveLength(policy.max_attempts - 1);
  });

  test("delivers by its document's conventions", () => {
    const { envelope, signature, user_agent, timeout_seconds, event_header, retry_policy } = preset.delivery;
    expect([envelope, signature.method, user_agent, timeout_seconds, waits(retry_policy)]).toEqual(DELIVERY[name]);
    expect(event_header).toBe('X-Webhook-Event');
    expect(signature).toMatchObject({ standard: true, header: 'X-Webhook-Signature' });
    expect(signature.body_spelling).toBe(name === 'isp-communications' ? 'json_stringify' : undefined);
  });

  test('lists the event types of its document, in its order', () => {
    expect(preset.event_types.map((eventType) => eventType.name)).toEqual(PRINTED_NAMES[name]);
  });
});

test('only the call centre narrows the answers that are tried again', () => {
  for (const [name, { delivery }] of presets) {
    const expected = name === 'call-center' ? [408, 429, 500, 502, 503, 504] : undefined;
    expect(delivery.retry_policy.retry_on_status_codes).toEqual(expected);
  }
});

const everyEventType = [...presets].flatMap(([name, preset]) =>
  preset.event_types.map((eventType) => ({ id: `${name} ${eventType.name}`, preset, eventType })),
);

describe.each(everyEventType)('$id', ({ eventType }) => {
  test('has a sample that satisfies its schema', () => {
    expect(problems(eventType.schema, eventType.sample)).toEqual([]);
  });

  test('declares every field that its sample shows', () => {
    expect(problems(closed(eventType.schema), eventType.sample)).toEqual([]);
  });

  test('accepts fields that a publisher adds', () => {
    expect(eventType.schema).toMatchObject({ type: 'object', additionalProperties: true });
    expect(problems(eventType.schema, { ...eventType.sample, added_later: 1 })).toEqual([]);
  });

  test('refuses an empty object', () => {
    expect(problems(eventType.schema, {})).not.toEqual([]);
  });

  test('refuses a required field that is missing or of another type, at every depth', () => {
    const validate = ajv.compile(eventType.schema);
    const paths = requiredPaths(eventType.schema, eventType.sample);
    expect(paths.length).toBeGreaterThan(0);
    for (const path of paths) {
      expect(validate(changed(eventType.sample, path, 'delete')), `without ${path.join('.')}`).toBe(false);
      expect(validate(changed(eventType.sample, path, 'mistype')), `wrong ${path.join('.')}`).toBe(false);
    }
  });

  test('shows no address or number that could belong to someone', () => {
    visit(eventType.sample, (value) => {
      if (typeof value !== 'string') return;
      if (value.includes('@')) expect(value).toMatch(/@([a-z]+\.)*(example\.com|vocelio\.com)$/);
      if (value.startsWith('+')) expect(value).toContain('555');
      if (/^https?:/.test(value)) expect(new URL(value).hostname).toMatch(/(^|\.)(example\.com|vocelio\.com)$/);
    });
  });
});

const flatEventTypes = everyEventType.filter(({ preset }) => preset.delivery.envelope === 'flat');

test.each(flatEventTypes)('$id leaves the keys of the flat envelope free', ({ eventType }) => {
  const declared = Object.keys(eventType.schema.properties as object);
  for (const key of ['event', 'timestamp']) {
    expect(declared).not.toContain(key);
    expect(eventType.sample).not.toHaveProperty(key);
  }
});

describe('payloads printed in the documents', () => {
  const leadCreated = {
    lead: {
      id: 'lead_123',
      name: 'John Doe',
      email: 'john.doe@example.com',
      phone: '+1-555-0123',
      source: 'website',
      score: 85,
      created_at: '2025-08-05T17:30:00Z',
    },
    agent: { id: 'agent_456', name: 'Sarah Johnson', email: 'sarah@vocelio.com' },
  };
  const callEnded = {
    call: {
      id: 'call_789',
      duration: 450,
      outcome: 'completed',
      recording_url: 'https://recordings.vocelio.com/call_789.mp3',
      started_at: '2025-08-05T17:52:30Z',
      ended_at: '2025-08-05T18:00:00Z',
    },
    customer: { id: 'customer_456', name: 'Jane Smith', phone: '+1-555-0789' },
    agent: { id: 'agent_123', name: 'Mike Wilson' },
  };
  const customerCreated = { id: 123, portal_id: '100123', full_name: 'John Doe', email: 'john@example.com' };

  test.each([
    ['call-center', 'lead.created', leadCreated],
    ['call-center', 'call.ended', callEnded],
    ['isp-framework', 'customer.created', customerCreated],
  ] as const)('%s shows the printed %s as its sample', (name, type, printed) => {
    expect(eventTypeOf(name, type).sample).toEqual(printed);
  });

  test('the smallest lead that the call centre publishes as a test is accepted', () => {
    const { schema } = eventTypeOf('call-center', 'lead.created');
    expect(problems(schema, { lead: { id: 'test_123', name: 'Test Lead' } })).toEqual([]);
  });

  test('a support ticket needs no more than the printed fields', () => {
    const { schema, sample } = eventTypeOf('support-autoresponder', 'ticket.created');
    const ticket = {
      id: 'uuid',
      ticket_number: 'TKT-2024-001',
      subject: 'Ticket subject',
      status: 'new',
      customer_email: 'customer@example.com',
    };
    expect(problems(schema, { ticket })).toEqual([]);
    expect(sample).toMatchObject({ ticket: { ...ticket, id: expect.any(String) } });
  });

  test.each([
    ['ticket.created', ['ticket']],
    ['ticket.updated', ['ticket']],
    ['ticket.resolved', ['ticket']],
    ['ticket.escalated', ['ticket']],
    ['ai.response.generated', ['ticket', 'ai_response']],
    ['ai.response.requires_review', ['ticket', 'ai_response']],
    ['ai.response.approved', ['ticket', 'ai_response']],
    ['ai.response.rejected', ['ticket', 'ai_response', 'reason']],
    ['conversation.added', ['conversation']],
    ['feedback.received', ['feedback']],
  ])("support's %s carries the keys of the payload column", (type, keys) => {
    const { schema, sample } = eventTypeOf('support-autoresponder', type);
    expect(schema.required).toEqual(keys);
    expect(Object.keys(sample)).toEqual(keys);
  });

  test('the ISP receiver of the document finds the titles that it prints', () => {
    expect(eventTypeOf('isp-communications', 'message.created').schema.required).toContain('subject');
    expect(eventTypeOf('isp-communications', 'notification.created').schema.required).toContain('title');
  });
});

interface ObjectSchema {
  properties?: Record<string, ObjectSchema>;
  required?: string[];
  items?: ObjectSchema;
}

function exactly(required: Record<string, unknown>, optional: Record<string, unknown> = {}) {
  const properties = { ...required, ...optional };
  return { type: 'object', properties, required: Object.keys(required), additionalProperties: false };
}

function problems(schema: object, data: unknown): unknown[] {
  const validate = ajv.compile(schema);
  validate(data);
  return validate.errors ?? [];
}

function eventTypeOf(name: PresetName, type: string): PresetEventType {
  const eventType = findPreset(name)?.event_types.find((candidate) => candidate.name === type);
  if (eventType === undefined) throw new Error(`${name} has no ${type}`);
  return eventType;
}

/** The waits between the attempts of a policy, in seconds and without jitter. */
function waits(policy: Preset['delivery']['retry_policy']): readonly number[] {
  if (policy.schedule_seconds) return policy.schedule_seconds;
  return Array.from({ length: policy.max_attempts - 1 }, (_, retry) =>
    Math.min(policy.initial_delay_seconds * policy.backoff_multiplier ** retry, policy.max_delay_seconds),
  );
}

/** The schema with every object that lists its properties closed to others. */
function closed(schema: object): object {
  return JSON.parse(JSON.stringify(schema), (_key, value) =>
    value?.type === 'object' && value.properties ? { ...value, additionalProperties: false } : value,
  );
}

/** The paths of all required fields whose surroundings the sample has; an array is entered through its first element. */
function requiredPaths(schema: ObjectSchema, sample: unknown, path: string[] = []): string[][] {
  if (Array.isArray(sample)) return requiredPaths(schema.items ?? {}, sample[0], [...path, '0']);
  if (typeof sample !== 'object' || sample === null) return [];
  const own = (schema.required ?? []).map((key) => [...path, key]);
  const below = Object.entries(sample).flatMap(([key, value]) =>
    requiredPaths(schema.properties?.[key] ?? {}, value, [...path, key]),
  );
  return [...own, ...below];
}

function changed(sample: object, path: string[], how: 'delete' | 'mistype'): object {
  const copy = structuredClone(sample);
  const parents = path.slice(0, -1);
  const key = path.at(-1) ?? '';
  let target = copy as Record<string, unknown>;
  for (const parent of parents) target = target[parent] as Record<string, unknown>;
  if (how === 'delete') delete target[key];
  else target[key] = typeof target[key] === 'boolean' ? 'true' : true;
  return copy;
}

function visit(value: unknown, look: (value: unknown) => void): void {
  look(value);
  if (typeof value === 'object' && value !== null) for (const child of Object.values(value)) visit(child, look);
}

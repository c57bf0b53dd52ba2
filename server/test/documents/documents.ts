import { createHmac } from 'node:crypto';

/** What a publisher says of an event, and the id that Posthorn gave it. */
export interface PublishedEvent {
  id: string;
  type: string;
  /** RFC 3339 with milliseconds, as deliveries spell it. */
  timestamp: string;
  data: unknown;
}

/** What one of the five requirement documents promises of every delivery, written down from its text. */
export interface RequirementDocument {
  preset: string;
  /** Event types by heading; where the document prints a table without headings, by the preset's own. */
  eventTypes: Record<string, string[]>;
  /** The secret that its example registers, or one like it. */
  secret: string;
  /** The time in its printed payload. */
  timestamp: string;
  /** The body in the document's form and order of members. */
  body(event: PublishedEvent): object;
  /** `X-Webhook-Signature` of a body. */
  signature(body: Buffer, secret: string): string;
  userAgent: string | RegExp;
  timeoutSeconds: number;
  retryPolicy: object;
  /** Seconds between the attempts, without jitter. */
  waits: number[];
}

const POSTHORN = /^Posthorn\/\d+\.\d+\.\d+$/;

const hexHmac = (body: Buffer, secret: string) => createHmac('sha256', secret).update(body).digest('hex');

/** For the two documents that leave retries open: the example schedule of the Standard Webhooks specification. */
const STANDARD_WAITS = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
const STANDARD_POLICY = {
  enabled: true,
  max_attempts: 8,
  strategy: 'exponential',
  initial_delay_seconds: 5,
  max_delay_seconds: 36_000,
  backoff_multiplier: 6,
  jitter: 0.1,
  retry_on_status_codes: null,
  schedule_seconds: STANDARD_WAITS,
};

const names = (prefix: string, ...rest: string[]) => rest.map((name) => `${prefix}.${name}`);

export const DOCUMENTS: RequirementDocument[] = [
  {
    preset: 'isp-communications',
    eventTypes: {
      Messages: names('message', 'created', 'updated', 'deleted'),
      Notifications: names('notification', 'created', 'updated', 'deleted'),
      Announcements: names('announcement', 'created', 'updated', 'deleted'),
      Tickets: names('ticket', 'created', 'updated', 'response_added'),
    },
    secret: 'your_webhook_secret',
    timestamp: '2023-06-15T12:34:56.789Z',
    body: ({ type, timestamp, data }) => ({ event: type, timestamp, ...(data as object) }),
    signature: hexHmac,
    userAgent: POSTHORN,
    timeoutSeconds: 15,
    retryPolicy: STANDARD_POLICY,
    waits: STANDARD_WAITS,
  },
  {
    preset: 'isp-framework',
    eventTypes: {
      'Customer Management': names(
        'customer',
        'created',
        'updated',
        'deleted',
        'service.created',
        'service.updated',
        'services.overview',
      ),
      'Billing System': [...names('invoice', 'created', 'paid', 'overdue'), 'payment.processed'],
      'Service Management': names('service', 'activated', 'suspended', 'terminated'),
      'Network Infrastructure': names('network', 'site.created', 'device.created', 'device.up', 'device.down'),
      'Ticketing System': names('ticket', 'created', 'updated', 'status_changed', 'assigned', 'resolved'),
      Authentication: names('auth', 'login', 'logout', 'failed'),
    },
    secret: 'your-secret-key',
    timestamp: '2024-01-15T10:30:00.000Z',
    // The document's four members, and beside them the event's id and the number of retries.
    body: ({ id, type, timestamp, data }) => ({
      event_type: type,
      event_id: id,
      timestamp,
      data,
      metadata: { retry_count: 0 },
    }),
    signature: hexHmac,
    userAgent: POSTHORN,
    timeoutSeconds: 15,
    retryPolicy: {
      enabled: true,
      max_attempts: 3,
      strategy: 'exponential',
      initial_delay_seconds: 5,
      max_delay_seconds: 300,
      backoff_multiplier: 2,
      jitter: 0.1,
      retry_on_status_codes: null,
      schedule_seconds: null,
    },
    waits: [5, 10],
  },
  {
    preset: 'call-center',
    eventTypes: {
      'Call Center': names('call', 'started', 'ended', 'answered', 'missed', 'transferred', 'recording_available'),
      'Lead Management': names('lead', 'created', 'updated', 'converted', 'lost', 'assigned'),
      Appointment: names(
        'appointment',
        'scheduled',
        'confirmed',
        'cancelled',
        'completed',
        'rescheduled',
        'reminder_sent',
      ),
      Agent: names('agent', 'online', 'offline', 'busy', 'available', 'performance_updated'),
      Campaign: names('campaign', 'started', 'completed', 'paused', 'performance_updated'),
      Notification: names('notification', 'sent', 'delivered', 'clicked', 'failed'),
      System: names('system', 'health_alert', 'maintenance', 'error', 'backup_completed'),
      Integration: [...names('crm', 'sync_completed', 'sync_failed'), ...names('api', 'rate_limit_exceeded', 'error')],
    },
    secret: 'salesforce_webhook_secret',
    timestamp: '2025-08-05T17:30:00.000Z',
    body: ({ id, type, timestamp, data }) => ({
      event_type: type,
      event_id: id,
      timestamp,
      data,
      metadata: { retry_count: 0 },
    }),
    signature: (body, secret) => `sha256=${hexHmac(body, secret)}`,
    userAgent: POSTHORN,
    timeoutSeconds: 15,
    retryPolicy: {
      enabled: true,
      max_attempts: 5,
      strategy: 'exponential',
      initial_delay_seconds: 1,
      max_delay_seconds: 300,
      backoff_multiplier: 2,
      jitter: 0.1,
      retry_on_status_codes: [408, 429, 500, 502, 503, 504],
      schedule_seconds: null,
    },
    waits: [1, 2, 4, 8],
  },
  {
    preset: 'support-autoresponder',
    eventTypes: {
      Tickets: names('ticket', 'created', 'updated', 'resolved', 'escalated'),
      'AI responses': names('ai.response', 'generated', 'requires_review', 'approved', 'rejected'),
      Conversations: ['conversation.added'],
      Feedback: ['feedback.received'],
    },
    secret: 'support webhook secret',
    timestamp: '2024-01-15T10:30:00.000Z',
    body: ({ type, timestamp, data }) => ({ event: type, timestamp, data }),
    signature: hexHmac,
    userAgent: 'AI-Support-Autoresponder/1.0',
    timeoutSeconds: 15,
    retryPolicy: STANDARD_POLICY,
    waits: STANDARD_WAITS,
  },
  {
    preset: 'whatsapp-crm',
    eventTypes: {
      Message: names('message', 'new', 'sent', 'delivered', 'read', 'failed'),
      Conversation: names('conversation', 'created', 'updated', 'assigned', 'resolved', 'closed'),
      Contact: names('contact', 'created', 'updated'),
      Campaign: names('campaign', 'started', 'completed', 'failed'),
      Flow: names('flow', 'started', 'completed', 'failed'),
      Automation: names('automation', 'triggered', 'completed'),
      Template: names('template', 'approved', 'rejected'),
    },
    secret: 'whatsapp webhook secret',
    timestamp: '2025-06-03T09:15:22.481Z',
    body: ({ type, timestamp, data }) => ({ event: type, timestamp, data }),
    signature: hexHmac,
    userAgent: POSTHORN,
    timeoutSeconds: 30,
    retryPolicy: {
      enabled: true,
      max_attempts: 4,
      strategy: 'exponential',
      initial_delay_seconds: 1,
      max_delay_seconds: 300,
      backoff_multiplier: 2,
      jitter: 0.1,
      retry_on_status_codes: null,
      schedule_seconds: null,
    },
    waits: [1, 2, 4],
  },
];

export const namesOf = (document: RequirementDocument): string[] => Object.values(document.eventTypes).flat();

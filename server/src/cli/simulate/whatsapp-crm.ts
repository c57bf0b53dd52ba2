import { makePerson } from './people.ts';
import { DAY, HOUR, type Life, type LifeEvent, MINUTE, sideBySide } from './story.ts';

const OFFERS = ['Spring offer', 'New arrivals', 'Members’ weekend'] as const;
const AGENTS = [
  { id: 'agt_1', name: 'Bruno Alves' },
  { id: 'agt_2', name: 'Zoe Marx' },
] as const;

interface Totals {
  sent: number;
  delivered: number;
  read: number;
  failed: number;
  replied: number;
}

/** A WhatsApp campaign: to each contact a message, which may be read and answered, and some conversations. */
export function* campaign(life: Life): Generator<LifeEvent> {
  const { random, number } = life;
  const name = random.pick(OFFERS);
  const known = { id: `cmp_${number}`, name: `${name} ${number}` };
  const audience = random.between(6, 14);
  const startedAt = life.now;
  yield life.event('campaign.started', `${known.name} goes to ${audience} contacts`, {
    campaign: { ...known, template_name: 'offer_v2' },
    audience_size: audience,
    started_by: AGENTS[0],
    started_at: startedAt,
  });
  const totals: Totals = { sent: 0, delivered: 0, read: 0, failed: 0, replied: 0 };
  const contacts = Array.from({ length: audience }, (_, at) => {
    const part = life.part(at + 1);
    // One message every few seconds, as a sending limit has it.
    part.nowMs += (at + 1) * 3_000;
    return contact(part, name, totals);
  });
  for (const event of sideBySide(contacts)) {
    life.nowMs = event.atMs;
    yield event;
  }
  life.wait(HOUR, 2 * HOUR);
  yield life.event('campaign.completed', `${known.name} is over: ${totals.read} read it, ${totals.replied} replied`, {
    campaign: known,
    totals: { recipients: audience, ...totals },
    started_at: startedAt,
    completed_at: life.now,
  });
  life.wait(DAY, 2 * DAY);
}

function* contact(life: Life, offer: string, totals: Totals): Generator<LifeEvent> {
  const { random, number } = life;
  const { name, phone, email } = makePerson(random, number);
  const person = { id: `con_${number}`, phone_number: phone, name };
  const conversation = `cnv_${number}`;
  if (random.chance(0.2)) {
    yield life.event('contact.created', `${name} is a new contact`, {
      ...person,
      email,
      tags: ['campaign'],
      source: 'campaign',
      created_at: life.now,
    });
    life.wait(1, 3);
  }
  const message = { id: `msg_${number}_1`, whatsapp_message_id: `wamid.${number}.1`, conversation_id: conversation };
  yield life.event('message.sent', `${offer} to ${name}`, {
    message: { ...message, type: 'template', template_name: 'offer_v2', sent_by: 'campaign', sent_at: life.now },
    contact: person,
  });
  totals.sent += 1;
  const about = {
    message_id: message.id,
    whatsapp_message_id: message.whatsapp_message_id,
    conversation_id: conversation,
    contact_id: person.id,
  };
  life.wait(1, 20);
  if (random.chance(0.08)) {
    totals.failed += 1;
    yield life.event('message.failed', `${name} cannot be reached`, {
      message_id: message.id,
      conversation_id: conversation,
      contact: person,
      error: { code: 131026, message: 'The message is undeliverable.', is_permanent: true },
      failed_at: life.now,
    });
    return;
  }
  totals.delivered += 1;
  yield life.event('message.delivered', `${name} has it`, { ...about, delivered_at: life.now });
  if (!random.chance(0.7)) return;
  life.wait(MINUTE, 3 * HOUR);
  totals.read += 1;
  yield life.event('message.read', `${name} has read it`, { ...about, read_at: life.now });
  if (random.chance(0.4)) {
    totals.replied += 1;
    yield* reply(life, person, conversation);
  }
}

function* reply(
  life: Life,
  contact: { id: string; phone_number: string; name: string },
  conversation: string,
): Generator<LifeEvent> {
  const { random, number } = life;
  const agent = random.pick(AGENTS);
  life.wait(20, 10 * MINUTE);
  const openedMs = life.nowMs;
  const base = { id: conversation, contact };
  yield life.event('conversation.created', `a conversation with ${contact.name}`, {
    ...base,
    status: 'open',
    channel_number: '+15555550100',
    started_by: 'contact',
    created_at: life.now,
  });
  yield life.event('message.new', `${contact.name}: Is it still available?`, {
    message: {
      id: `msg_${number}_2`,
      whatsapp_message_id: `wamid.${number}.2`,
      conversation_id: conversation,
      type: 'text',
      text: 'Is it still available?',
      received_at: life.now,
    },
    contact,
  });
  life.wait(10, 5 * MINUTE);
  yield life.event('conversation.assigned', `${agent.name} takes it`, {
    ...base,
    status: 'open',
    assigned_to: { ...agent, type: 'agent' },
    previous_assignee: null,
    assigned_at: life.now,
  });
  life.wait(10, 3 * MINUTE);
  const firstResponseSeconds = (life.nowMs - openedMs) / 1000;
  yield life.event('message.sent', `${agent.name}: Yes, until Sunday.`, {
    message: {
      id: `msg_${number}_3`,
      whatsapp_message_id: `wamid.${number}.3`,
      conversation_id: conversation,
      type: 'text',
      text: 'Yes, until Sunday.',
      sent_by: 'agent',
      sent_at: life.now,
    },
    contact,
  });
  life.wait(MINUTE, HOUR);
  yield life.event('conversation.resolved', `${agent.name} is done`, {
    ...base,
    status: 'resolved',
    resolved_by: agent,
    resolved_at: life.now,
    first_response_seconds: firstResponseSeconds,
    resolution_seconds: (life.nowMs - openedMs) / 1000,
  });
  life.wait(HOUR, 4 * HOUR);
  yield life.event('conversation.closed', `the conversation with ${contact.name} is closed`, {
    ...base,
    status: 'closed',
    reason: 'resolved',
    message_count: 2,
    closed_at: life.now,
  });
}

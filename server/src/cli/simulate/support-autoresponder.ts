import { makePerson } from './people.ts';
import { DAY, HOUR, type Life, type LifeEvent, MINUTE } from './story.ts';

const QUESTIONS = [
  [
    'How do I reset my password?',
    'account',
    'Use "Forgot password" on the sign-in page; the link is valid for an hour.',
  ],
  ['My invoice is wrong', 'billing', 'The second line is the set-up fee of your plan; it is charged once.'],
  ['The export is empty', 'technical', 'The export covers the chosen dates only; choose "All time" to get everything.'],
] as const;
const REVIEWERS = ['rita@support.example.com', 'juan@support.example.com'] as const;

/** A ticket of a support desk whose answers an AI drafts: until it is solved, by the AI or by a person. */
export function* ticketLife(life: Life): Generator<LifeEvent> {
  const { random, number } = life;
  const person = makePerson(random, number);
  const [subject, category, answer] = random.pick(QUESTIONS);
  const base = {
    id: `tkt_${number}`,
    ticket_number: `TKT-${String(number).padStart(6, '0')}`,
    subject,
    customer_email: person.email,
    customer_name: person.name,
    priority: random.pick(['low', 'medium', 'high'] as const),
    category,
  };
  const ticket = (status: string) => ({ ...base, status });
  const reviewer = random.pick(REVIEWERS);
  const confidence = random.between(40, 98) / 100;
  const response = (status: string) => ({
    id: `air_${number}`,
    content: answer,
    model: 'autoresponder-2',
    confidence,
    status,
  });
  let conversations = 0;
  const said = (sender: 'customer' | 'agent' | 'ai', message: string) => {
    conversations += 1;
    return life.event('conversation.added', `${sender}: ${message}`, {
      conversation: {
        id: `cnv_${number}_${conversations}`,
        ticket_id: base.id,
        ticket_number: base.ticket_number,
        sender_type: sender,
        sender_email: sender === 'customer' ? person.email : reviewer,
        message,
        is_internal: false,
        created_at: life.now,
      },
    });
  };

  yield life.event('ticket.created', `${base.ticket_number} of ${person.name}: ${subject}`, {
    ticket: { ...ticket('new'), message: `${subject} I tried twice.`, created_at: life.now },
  });
  life.wait(2, 10);
  const generatedAt = life.now;
  yield life.event('ai.response.generated', `an answer is drafted, confidence ${confidence}`, {
    ticket: ticket('new'),
    ai_response: { ...response('generated'), tokens_used: random.between(200, 900), generated_at: generatedAt },
  });
  let solvedBy: 'ai' | 'agent' = 'ai';
  if (confidence < 0.8) {
    life.wait(1, 3);
    yield life.event('ai.response.requires_review', 'a person has to look at it', {
      ticket: ticket('pending'),
      ai_response: { ...response('pending_review'), review_reasons: ['low_confidence'], generated_at: generatedAt },
    });
    life.wait(5 * MINUTE, 2 * HOUR);
    if (confidence < 0.6) {
      solvedBy = 'agent';
      yield life.event('ai.response.rejected', `${reviewer} rejects it`, {
        ticket: ticket('pending'),
        ai_response: { ...response('rejected'), rejected_by: reviewer, rejected_at: life.now },
        reason: 'It does not answer the question.',
      });
      life.wait(MINUTE, 10 * MINUTE);
      yield life.event('ticket.escalated', `${base.ticket_number} is escalated`, {
        ticket: {
          ...ticket('escalated'),
          escalated_at: life.now,
          escalated_to: 'second line',
          escalation_reason: 'The draft was rejected.',
        },
      });
      life.wait(HOUR, 4 * HOUR);
      yield said('agent', `I looked into it. ${answer}`);
    } else {
      yield life.event('ai.response.approved', `${reviewer} approves it`, {
        ticket: ticket('pending'),
        ai_response: {
          ...response('approved'),
          approved_by: reviewer,
          approved_at: life.now,
          was_edited: random.chance(0.3),
        },
      });
      life.wait(1, 5);
      yield said('ai', answer);
    }
  } else {
    life.wait(1, 5);
    yield said('ai', answer);
  }
  life.wait(1, 3);
  yield life.event('ticket.updated', `${base.ticket_number} waits for ${person.name}`, {
    ticket: { ...ticket('pending'), updated_fields: ['status'], updated_at: life.now },
  });
  life.wait(10 * MINUTE, 8 * HOUR);
  yield said('customer', 'Thank you, that was it.');
  life.wait(MINUTE, 10 * MINUTE);
  yield life.event('ticket.resolved', `${base.ticket_number} is resolved`, {
    ticket: { ...ticket('resolved'), resolved_at: life.now, resolved_by: solvedBy, resolution: answer },
  });
  if (random.chance(0.7)) {
    life.wait(HOUR, DAY);
    const rating = solvedBy === 'agent' ? random.between(2, 5) : random.between(3, 5);
    yield life.event('feedback.received', `${person.name} gives ${rating} of 5`, {
      feedback: {
        id: `fbk_${number}`,
        ticket_id: base.id,
        ticket_number: base.ticket_number,
        rating,
        was_helpful: rating >= 3,
        customer_email: person.email,
        created_at: life.now,
      },
    });
  }
}

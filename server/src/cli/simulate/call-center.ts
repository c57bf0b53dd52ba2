import { makePerson } from './people.ts';
import { DAY, HOUR, type Life, type LifeEvent, MINUTE, timeText } from './story.ts';

const AGENTS = ['Sarah Johnson', 'Mike Wilson', 'Lerato Moyo', 'Tomás Ruiz'].map((name, at) => ({
  id: `agent_${101 + at}`,
  name,
  email: `agent${101 + at}@callcenter.example.com`,
}));
type Agent = (typeof AGENTS)[number];

const SHIFT_SECONDS = 9 * HOUR;

/** What a day came to. */
interface Counts {
  calls: number;
  answered: number;
  conversions: number;
  revenue: number;
  handled: Map<string, { calls: number; seconds: number }>;
}

/** A call centre's day: agents come, a campaign runs, calls are made, leads are won and lost, agents go. */
export function* callCenterDay(life: Life): Generator<LifeEvent> {
  const { random, number } = life;
  // Each day begins at eight.
  life.nowMs = Math.ceil((life.nowMs - 8 * HOUR * 1000) / (DAY * 1000)) * DAY * 1000 + 8 * HOUR * 1000;
  const beganMs = life.nowMs;
  const counts: Counts = { calls: 0, answered: 0, conversions: 0, revenue: 0, handled: new Map() };
  for (const agent of AGENTS) {
    life.wait(10, 3 * MINUTE);
    counts.handled.set(agent.id, { calls: 0, seconds: 0 });
    yield life.event('agent.online', `${agent.name} is here`, { agent, skills: ['sales'], online_at: life.now });
  }
  const campaign = { id: `camp_${number}`, name: `Day ${number}` };
  const target = random.between(15, 25);
  life.wait(MINUTE, 5 * MINUTE);
  yield life.event('campaign.started', `${campaign.name} is to reach ${target} people`, {
    campaign: { ...campaign, type: 'outbound', target_count: target, started_at: life.now },
    started_by: AGENTS[0],
  });
  for (let at = 1; at <= target; at += 1) {
    life.wait(MINUTE, 15 * MINUTE);
    yield* call(life, number * 1_000 + at, campaign.id, counts);
  }
  life.wait(MINUTE, 10 * MINUTE);
  const { calls, answered, conversions, revenue } = counts;
  yield life.event('campaign.completed', `${campaign.name}: ${answered} of ${calls} answered, ${conversions} won`, {
    campaign: { ...campaign, completed_at: life.now },
    results: { calls_made: calls, calls_answered: answered, conversions, revenue, currency: 'USD' },
  });
  life.nowMs = Math.max(life.nowMs + MINUTE * 1000, beganMs + SHIFT_SECONDS * 1000);
  for (const agent of AGENTS) {
    const { calls: handled, seconds } = counts.handled.get(agent.id) ?? { calls: 0, seconds: 0 };
    life.wait(5, MINUTE);
    yield life.event('agent.performance_updated', `${agent.name} handled ${handled} calls`, {
      agent,
      period: { from: timeText(beganMs), to: life.now },
      metrics: { calls_handled: handled, average_handle_time: handled === 0 ? 0 : Math.round(seconds / handled) },
    });
    life.wait(5, MINUTE);
    yield life.event('agent.offline', `${agent.name} goes home`, {
      agent,
      reason: 'shift_end',
      session_duration: Math.round((life.nowMs - beganMs) / 1000),
      offline_at: life.now,
    });
  }
}

function* call(life: Life, number: number, campaignId: string, counts: Counts): Generator<LifeEvent> {
  const { random } = life;
  const person = makePerson(random, number);
  const customer = { id: `customer_${number}`, name: person.name, phone: person.phone };
  const id = `call_${number}`;
  const direction = 'outbound';
  const startedAt = life.now;
  counts.calls += 1;
  yield life.event('call.started', `${id} to ${person.name}`, {
    call: { id, direction, from: '+15555550100', to: person.phone, campaign_id: campaignId, started_at: startedAt },
    customer,
  });
  const waitSeconds = random.between(4, 35);
  life.wait(waitSeconds, waitSeconds);
  if (random.chance(0.25)) {
    yield life.event('call.missed', `${person.name} does not answer`, {
      call: { id, direction, reason: 'no_answer', wait_time: waitSeconds, missed_at: life.now },
      customer,
      queue: 'sales',
    });
    return;
  }
  counts.answered += 1;
  let agent = random.pick(AGENTS);
  yield life.event('call.answered', `${agent.name} speaks with ${person.name}`, {
    call: { id, direction, wait_time: waitSeconds, answered_at: life.now },
    customer,
    agent,
  });
  yield life.event('agent.busy', `${agent.name} is on a call`, {
    agent,
    activity: 'on_call',
    call_id: id,
    busy_at: life.now,
  });
  if (random.chance(0.15)) {
    life.wait(20, 2 * MINUTE);
    const from = agent;
    agent = AGENTS[(AGENTS.indexOf(from) + 1) % AGENTS.length] ?? from;
    yield life.event('call.transferred', `${from.name} passes ${id} to ${agent.name}`, {
      call: { id, transferred_at: life.now },
      from_agent: from,
      to_agent: agent,
      transfer_type: 'warm',
      reason: 'pricing',
    });
    yield life.event('agent.available', `${from.name} is free`, {
      agent: from,
      queues: ['sales'],
      available_at: life.now,
    });
  }
  life.wait(MINUTE, 10 * MINUTE);
  const endedAt = life.now;
  const duration = Math.round((life.nowMs - Date.parse(startedAt)) / 1000);
  const handled = counts.handled.get(agent.id);
  if (handled !== undefined) {
    handled.calls += 1;
    handled.seconds += duration;
  }
  const url = `https://recordings.callcenter.example.com/${id}.mp3`;
  yield life.event('call.ended', `${id} took ${duration} s`, {
    call: {
      id,
      direction,
      duration,
      outcome: 'completed',
      recording_url: url,
      started_at: startedAt,
      ended_at: endedAt,
    },
    customer,
    agent,
  });
  life.wait(2, 20);
  yield life.event('agent.available', `${agent.name} is free`, { agent, queues: ['sales'], available_at: life.now });
  life.wait(5, 30);
  yield life.event('call.recording_available', `${id} can be heard`, {
    call: { id, ended_at: endedAt },
    recording: { id: `rec_${number}`, url, duration, format: 'mp3', size_bytes: duration * 4_000 },
  });
  if (random.chance(0.5)) yield* lead(life, number, person, agent, counts);
}

function* lead(
  life: Life,
  number: number,
  person: ReturnType<typeof makePerson>,
  agent: Agent,
  counts: Counts,
): Generator<LifeEvent> {
  const { random } = life;
  const { name, email, phone } = person;
  const known = { id: `lead_${number}`, name, email, phone, source: 'phone', score: random.between(30, 95) };
  life.wait(5, MINUTE);
  yield life.event('lead.created', `${name} is interested, score ${known.score}`, {
    lead: { ...known, created_at: life.now },
    agent,
  });
  life.wait(1, 5);
  yield life.event('lead.assigned', `${agent.name} keeps in touch`, {
    lead: { ...known, assigned_at: life.now },
    agent,
    previous_agent: null,
    assignment: 'ai',
  });
  life.wait(MINUTE, 5 * MINUTE);
  if (known.score >= 70) {
    const value = random.between(2, 40) * 50;
    counts.conversions += 1;
    counts.revenue += value;
    yield life.event('lead.converted', `${name} buys for ${value} USD`, {
      lead: { ...known, converted_at: life.now },
      customer_id: `customer_${number}`,
      deal: { value, currency: 'USD' },
      agent,
    });
  } else if (known.score >= 50) {
    const starts = timeText(life.nowMs + random.between(1, 5) * DAY * 1000);
    yield life.event('appointment.scheduled', `${name} has an appointment`, {
      appointment: { id: `appt_${number}`, starts_at: starts, duration_minutes: 30, type: 'demo', timezone: 'UTC' },
      customer: { id: `customer_${number}`, name, phone },
      agent,
    });
  } else {
    yield life.event('lead.lost', `${name} is not interested after all`, {
      lead: { ...known, lost_at: life.now },
      reason: 'no_interest',
      agent,
    });
  }
}

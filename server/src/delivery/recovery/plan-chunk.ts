import type { WebhookStatus } from '../../webhooks/settings.ts';
import { type DeliveryStatus, statusesAllowing } from '../transitions.ts';

/** A delivery that a replay job has come to, as it is now. */
export interface Candidate {
  id: string;
  event_id: string;
  webhook_id: string;
  event_type: string;
  status: DeliveryStatus;
  trigger: string;
  has_payload: boolean;
  /** A dead delivery whose dead letter was purged is done with. */
  is_dead_letter: boolean;
  priority: number;
  ordering_key: string | null;
  /** null: the webhook was deleted. */
  webhook_status: WebhookStatus | null;
}

/** What a chunk of a job does. */
export interface ChunkPlan {
  /** Delivered before: the event gets a new delivery to the same webhook. */
  again: PlannedReplay[];
  /** Dead or cancelled: the delivery itself goes on. */
  resumed: PlannedReplay[];
  /** The first candidate that has to wait, because too much waits for its webhook already; undefined: none has to. */
  blocked: Candidate | undefined;
}

export interface PlannedReplay {
  candidate: Candidate;
  held: boolean;
}

/**
 * Decides what becomes of the deliveries of a chunk, in their order. `room`: how many more may wait for each webhook.
 * The first one without room stops the chunk, so that the order stays.
 */
export function planChunk(candidates: readonly Candidate[], room: ReadonlyMap<string, number>): ChunkPlan {
  const left = new Map(room);
  const plan: ChunkPlan = { again: [], resumed: [], blocked: undefined };
  for (const candidate of candidates) {
    const kind = kindOf(candidate);
    if (kind === 'skip') continue;
    const held = candidate.webhook_status !== 'active';
    if (!held) {
      const places = left.get(candidate.webhook_id) ?? 0;
      if (places < 1) {
        plan.blocked = candidate;
        break;
      }
      left.set(candidate.webhook_id, places - 1);
    }
    plan[kind].push({ candidate, held });
  }
  return plan;
}

function kindOf(candidate: Candidate): 'again' | 'resumed' | 'skip' {
  if (candidate.trigger === 'test' || !candidate.has_payload || candidate.webhook_status === null) return 'skip';
  if (candidate.status === 'delivered') return 'again';
  if (!RESUMABLE.includes(candidate.status)) return 'skip';
  return candidate.status === 'dead' && !candidate.is_dead_letter ? 'skip' : 'resumed';
}

const RESUMABLE = statusesAllowing('replay');

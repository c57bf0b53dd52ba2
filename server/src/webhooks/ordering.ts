import { type Static, Type } from 'typebox';
import { changeable, orNull } from './nullable.ts';

/** The order in which a webhook gets the events of a key. */
export interface Ordering {
  /** Segments of the path into the event's `data` where the key stands; null: the event's `ordering_key`. */
  readonly keyPath: readonly string[] | null;
  /** What becomes of a key's later events when one ends dead. */
  readonly onDead: OnDead;
}

type OnDead = 'skip' | 'park';

const KEY_PATH_LENGTH_MAX = 200;

const fields = {
  enabled: Type.Boolean({
    description:
      'Default false. true: an event is not sent to this webhook before the event with the same key that was ' +
      'published before it has ended. The key is the value at `key_path`, else the event’s `ordering_key`; events ' +
      'with neither form one sequence.',
  }),
  key_path: Type.String({
    minLength: 1,
    maxLength: KEY_PATH_LENGTH_MAX,
    // Dots between segments that are not empty. jsonb holds neither NUL nor a lone half of a surrogate pair.
    pattern: '^[^.\\u0000\\ud800-\\udfff]+(\\.[^.\\u0000\\ud800-\\udfff]+)*$',
    description: 'Where the key stands in the event’s `data`, with dots: `customer.id`, `items.0.id`.',
  }),
  on_dead: Type.Unsafe<OnDead>({
    type: 'string',
    enum: ['skip', 'park'],
    description:
      'When an event of a key ends dead. `skip` (default): later ones of the key go on. `park`: they wait until it is ' +
      'retried with success, purged, cancelled or discarded, or until its payload is erased.',
  }),
};

/** `ordering` in a request: absent leaves a field as it is, null gives its default back. */
export const OrderingInput = Type.Object(changeable(fields), { additionalProperties: false });

/** `ordering` in an answer: what is in force. */
export const OrderingShown = Type.Object({ ...fields, key_path: orNull(fields.key_path) });

/** What a webhook says for itself; as stored in `webhooks.ordering`. */
export interface OrderingFields {
  readonly enabled?: boolean;
  readonly key_path?: string;
  readonly on_dead?: OnDead;
}

/** The ordering in force; null: events go as they come. */
export function resolveOrdering(own: OrderingFields): Ordering | null {
  const { enabled, key_path, on_dead } = showOrdering(own);
  return enabled ? { keyPath: key_path?.split('.') ?? null, onDead: on_dead } : null;
}

/** The ordering as the API shows it. */
export function showOrdering(own: OrderingFields): Static<typeof OrderingShown> {
  return { enabled: own.enabled ?? false, key_path: own.key_path ?? null, on_dead: own.on_dead ?? 'skip' };
}

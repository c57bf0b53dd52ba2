import { type Envelope, type ShapedBody, type ShapedEvent, shapeBody } from './envelopes.ts';
import { respell } from './respell.ts';
import { isJson } from './transformation.ts';

/** How the body of an attempt is made: in which envelope, and in whose spelling. */
export interface BodyForm {
  readonly envelope: Envelope;
  readonly bodySpelling: 'published' | 'json_stringify';
}

const RESPELLED = ' json_stringify';

/** The name by which an attempt records its form: the envelope's, as published, unless the body is spelled anew. */
export function formName({ envelope, bodySpelling }: BodyForm): string {
  return bodySpelling === 'published' ? envelope : envelope + RESPELLED;
}

/** The body of the form of that name, as it was built when the attempt was made. */
export function shapeNamedForm(name: string, event: ShapedEvent, attempt: number): ShapedBody {
  const respelled = name.endsWith(RESPELLED);
  const envelope = (respelled ? name.slice(0, -RESPELLED.length) : name) as Envelope;
  return shapeForm({ envelope, bodySpelling: respelled ? 'json_stringify' : 'published' }, event, attempt);
}

/** See `shapeBody`, which makes the body, and `respell`. */
export function shapeForm({ envelope, bodySpelling }: BodyForm, event: ShapedEvent, attempt: number): ShapedBody {
  const shaped = shapeBody(envelope, event, attempt);
  return bodySpelling === 'published' ? shaped : { ...shaped, body: respell(shaped.body) };
}

/** A body that a template made, in the spelling of the form. One that is no JSON, or nests too deep, stays as it is. */
export function spellBody({ bodySpelling }: Pick<BodyForm, 'bodySpelling'>, shaped: ShapedBody): ShapedBody {
  if (bodySpelling === 'published' || !isJson(shaped.contentType)) return shaped;
  try {
    return { ...shaped, body: respell(shaped.body) };
  } catch {
    return shaped;
  }
}

import { type Static, Type } from 'typebox';
import type { FieldProblem } from '../../kernel/errors.ts';
import { PATH_LENGTH_MAX } from '../../masking/rules.ts';
import { FILTER_MODES, FILTER_OPERATORS, FILTERS_MAX, type Filter, VALUE_LENGTH_MAX, VALUES_MAX } from './filter.ts';

const fields = {
  field_path: Type.String({
    minLength: 1,
    maxLength: PATH_LENGTH_MAX,
    description:
      'From the event on: `data.lead.score`, `data.items.0.sku`, `data.items.*.sku` (one element will do), ' +
      '`metadata.source`, `event_type`, `event_id`, `timestamp`. Any other beginning is a path into the data.',
  }),
  operator: Type.Enum([...FILTER_OPERATORS]),
  value: Type.Unknown({
    description:
      `A text (at most ${VALUE_LENGTH_MAX} characters), a number, true, false or null; for \`in\` and \`not_in\` a list ` +
      `of at most ${VALUES_MAX}; for \`matches\` a regular expression; none for \`exists\` and \`not_exists\`.`,
  }),
  case_sensitive: Type.Boolean({ description: 'Whether texts that differ in their case differ. Default true.' }),
};

const filterInput = Type.Object(
  {
    field_path: fields.field_path,
    operator: fields.operator,
    value: Type.Optional(fields.value),
    case_sensitive: Type.Optional(Type.Unsafe<boolean | null>({ ...fields.case_sensitive, type: ['boolean', 'null'] })),
  },
  { additionalProperties: false },
);
type FilterInput = Static<typeof filterInput>;

/**
 * `filters` in a request. The list replaces the one before. call-center.md prints one filter by itself, which is taken as
 * a list of one. Each keyword judges only the type that it is for, so the two need no union, whose errors would name both.
 */
export const FiltersInput = Type.Unsafe<FilterInput[] | FilterInput>({
  type: ['array', 'object'],
  items: filterInput,
  maxItems: FILTERS_MAX,
  properties: filterInput.properties,
  required: filterInput.required,
  additionalProperties: false,
  description:
    'Of the events that it is subscribed to, the webhook gets those that satisfy them. A list, or one filter by itself. ' +
    'At most 16 KB of JSON. docs/filters.md has the rules.',
});

export const FilterModeSchema = Type.Enum([...FILTER_MODES], {
  description: 'Whether an event must satisfy `all` filters (default) or `any` of them.',
});

/** `filters` in an answer. */
export const FiltersShown = Type.Array(Type.Object({ ...fields, value: Type.Optional(fields.value) }));

/** The filters of a request, with the defaults. Whether they can be is still to be seen. */
export function filtersOf(input: FilterInput[] | FilterInput): Filter[] {
  return [input].flat().map(({ field_path, operator, value, case_sensitive }) => ({
    field_path,
    operator,
    ...(value !== undefined && { value }),
    case_sensitive: case_sensitive ?? true,
  }));
}

/** What is wrong with the filters of a request, named as the request has them: one by itself stands at no place of a list. */
export function problemsOf(input: FilterInput[] | FilterInput, problems: readonly FieldProblem[]): FieldProblem[] {
  if (Array.isArray(input)) return [...problems];
  return problems.map((problem) => ({ ...problem, path: problem.path.replace(/^filters\.0\b/, 'filters') }));
}

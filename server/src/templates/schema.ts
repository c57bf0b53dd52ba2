import { type Static, Type } from 'typebox';
import { leftAside } from '../http/left-aside.ts';
import { STORED_NAME_PATTERN, templateFields } from '../shaping/transformation.ts';
import { orNull } from '../webhooks/nullable.ts';

const fields = {
  name: Type.String({
    pattern: STORED_NAME_PATTERN,
    description:
      'By which webhooks name it in `transformation.template`: letters, digits, `_`, `.` and `-`. Several templates may ' +
      'have one name, each for an event type.',
  }),
  event_type: Type.String({
    minLength: 1,
    maxLength: 200,
    pattern: '^[^\\u0000-\\u0020\\u007f]*$',
    description: 'The one event type that it is for; null: all that have no template of this name of their own.',
  }),
  description: Type.String({ maxLength: 2_000, pattern: '^[^\\u0000]*$' }),
  headers: Type.Record(Type.String(), Type.String(), {
    description:
      'Request headers: Jinja2 templates by name. One whose value comes out empty is left out. Credentials belong to ' +
      'the webhook, where they are sealed.',
  }),
};

const optional = {
  event_type: Type.Optional(orNull(fields.event_type)),
  description: Type.Optional(orNull(fields.description)),
  language: Type.Optional(orNull(templateFields.language)),
  native: Type.Optional(orNull(templateFields.native)),
  content_type: Type.Optional(orNull(templateFields.content_type)),
  headers: Type.Optional(orNull(fields.headers)),
};

/** The body of POST. */
export const TemplateInput = Type.Object(
  { name: fields.name, template: templateFields.template, ...optional },
  { additionalProperties: false },
);

/** The body of PUT and PATCH: absent leaves a field as it is, null gives it its default back. */
export const TemplateChange = Type.Object(
  { name: Type.Optional(fields.name), template: Type.Optional(templateFields.template), ...optional },
  { additionalProperties: false },
);
export type TemplateChange = Static<typeof TemplateChange>;

/** The same, as what GET answers can be sent back in it. */
export const TemplateChangeBody = Type.Object(
  {
    ...TemplateChange.properties,
    ...leftAside('id', 'tenant_id', 'environment', 'version', 'created_at', 'updated_at'),
  },
  { additionalProperties: false },
);

const content = {
  template: templateFields.template,
  language: templateFields.language,
  native: templateFields.native,
  content_type: templateFields.content_type,
  headers: fields.headers,
};

export const TemplateShown = Type.Object(
  {
    id: Type.String({ description: 'TypeID, `tpl_…`.' }),
    tenant_id: Type.String(),
    environment: Type.String(),
    name: fields.name,
    event_type: orNull(fields.event_type),
    description: orNull(fields.description),
    version: Type.Integer({ description: 'The version that is in force.' }),
    ...content,
    created_at: Type.String({ format: 'date-time' }),
    updated_at: Type.String({ format: 'date-time' }),
  },
  { $id: 'Template', title: 'Template' },
);
export type TemplateShown = Static<typeof TemplateShown>;

export const VersionShown = Type.Object({
  version: Type.Integer(),
  is_current: Type.Boolean(),
  ...content,
  created_at: Type.String({ format: 'date-time' }),
});

/** What came of a test. */
export const TestShown = Type.Object({
  success: Type.Boolean(),
  event_type: Type.String(),
  body: orNull(Type.String({ description: 'As it would be sent; null: the webhook’s envelope makes it.' })),
  content_type: Type.String(),
  headers: Type.Record(Type.String(), Type.String()),
  url: orNull(Type.String({ description: 'In place of the webhook’s.' })),
  cancelled: Type.Boolean({ description: 'Nothing would be sent.' }),
  error: Type.Union([
    Type.Object({
      kind: Type.Enum(['syntax', 'failed', 'limit', 'output', 'unavailable']),
      message: Type.String(),
      detail: Type.Optional(Type.String({ description: 'More of it, which may quote the sample.' })),
      path: Type.Optional(Type.String()),
      line: Type.Optional(Type.Integer()),
      column: Type.Optional(Type.Integer()),
    }),
    Type.Null(),
  ]),
});
export type TestShown = Static<typeof TestShown>;

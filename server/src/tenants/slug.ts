const SLUG_LENGTH_MAX = 63;

/**
 * A slug made of a name: `Café Über 24` is `cafe-uber-24`. Undefined when the name has no letter or digit that a slug
 * may have, as with a name in another script.
 */
export function slugFromName(name: string): string | undefined {
  const words = name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '');
  const slug = words.join('-').slice(0, SLUG_LENGTH_MAX).replace(/-$/, '');
  return slug === '' ? undefined : slug;
}

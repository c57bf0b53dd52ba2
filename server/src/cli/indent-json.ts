/**
 * Lays out a valid JSON text over indented lines, two blanks a level, and leaves its keys, numbers and escapes as they
 * are spelled: `1.0` stays `1.0`, and a repeated key stays. Stops soon after `maxLength` characters, so that a huge text
 * costs no more than a small one.
 */
export function indentJson(json: string, maxLength: number): string {
  let text = '';
  let depth = 0;
  for (let at = 0; at < json.length && text.length <= maxLength; at += 1) {
    const character = json[at] as string;
    switch (character) {
      case '"': {
        const end = endOfString(json, at, maxLength);
        text += json.slice(at, end);
        at = end - 1;
        break;
      }
      case '{':
      case '[': {
        const close = skipBlanks(json, at + 1);
        if (json[close] === '}' || json[close] === ']') {
          text += character + json[close];
          at = close;
          break;
        }
        depth += 1;
        text += `${character}\n${'  '.repeat(depth)}`;
        break;
      }
      case '}':
      case ']':
        depth -= 1;
        text += `\n${'  '.repeat(depth)}${character}`;
        break;
      case ',':
        text += `,\n${'  '.repeat(depth)}`;
        break;
      case ':':
        text += ': ';
        break;
      default:
        if (!BLANKS.includes(character)) text += character;
    }
  }
  return text;
}

const BLANKS = ' \t\n\r';

function skipBlanks(json: string, from: number): number {
  let at = from;
  while (at < json.length && BLANKS.includes(json[at] as string)) at += 1;
  return at;
}

/** The offset behind the closing quote, or one that is `maxLength` further than the opening one. */
function endOfString(json: string, from: number, maxLength: number): number {
  const limit = Math.min(json.length, from + maxLength + 1);
  for (let at = from + 1; at < limit; at += 1) {
    if (json[at] === '\\') at += 1;
    else if (json[at] === '"') return at + 1;
  }
  return limit;
}

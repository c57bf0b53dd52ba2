/**
 * Text from outside (payloads, header values, a server's answers) made fit for a terminal, on one line: what could move
 * the cursor, change colours, retitle the window or reorder what is read (control, format and separator characters of
 * Unicode, lone surrogates) is shown as its escape, as in `\u001b[2J`. The joiners that emoji and some scripts need stay.
 */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** The same for text of several lines: its line breaks stay, and a tab becomes two blanks. */
export function printableLines(text: string): string {
  return text
    .split(/\r?\n/)
    .map((line) => printable(line.replaceAll('\t', '  ')))
    .join('\n');
}

const UNSAFE = /[[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]--[\u200c\u200d]]/gv;

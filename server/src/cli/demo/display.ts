import type { Terminal } from '../terminal.ts';
import { textTable } from '../text-table.ts';
import type { ReceiverFigures } from './figures.ts';

/** Shows figures again and again. */
export interface Display {
  /** Milliseconds between two looks at the figures that suit it. */
  intervalMs: number;
  show(figures: readonly ReceiverFigures[], elapsedSeconds: number): void;
}

/** On a terminal a table that is redrawn in place; in a file or pipe one line at a time. */
export function createDisplay(terminal: Terminal): Display {
  return terminal.isInteractive ? liveTable(terminal) : plainLines(terminal);
}

/** The table's lines, its titles first. */
export function figuresTable(figures: readonly ReceiverFigures[]): string[] {
  const rows = figures.map((each) => [
    each.name,
    ...[each.events, each.delivered, each.retried, each.waiting, each.dead].map(String),
    each.last,
  ]);
  return textTable(COLUMNS, rows);
}

const COLUMNS = [
  { title: 'receiver' },
  { title: 'events', isNumber: true },
  { title: 'delivered', isNumber: true },
  { title: 'retried', isNumber: true },
  { title: 'waiting', isNumber: true },
  { title: 'dead', isNumber: true },
  { title: 'last answer' },
];

function liveTable(terminal: Terminal): Display {
  let drawnLines = 0;
  return {
    intervalMs: 500,
    show: (figures, elapsedSeconds) => {
      // A line that wraps would take two rows, and the table would creep down the screen.
      const lines = [`${Math.floor(elapsedSeconds)} s`, ...figuresTable(figures)].map((line) =>
        line.slice(0, terminal.width() - 1),
      );
      const backToTop = drawnLines === 0 ? '' : `\u001b[${drawnLines}A\u001b[J`;
      terminal.write(`${backToTop}${lines.join('\n')}\n`);
      drawnLines = lines.length;
    },
  };
}

function plainLines(terminal: Terminal): Display {
  return {
    intervalMs: 3_000,
    show: (figures, elapsedSeconds) => {
      const parts = figures.map(
        (each) =>
          `${each.name}: ${each.delivered} of ${each.events} delivered, ${each.retried} retried, ${each.waiting} waiting, ${each.dead} dead`,
      );
      terminal.print(`${Math.floor(elapsedSeconds)} s  ${parts.join('  |  ')}`);
    },
  };
}

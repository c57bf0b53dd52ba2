import { printable } from './safe-text.ts';

export interface TableColumn {
  title: string;
  /** Numbers stand at the right edge (false). */
  isNumber?: boolean;
}

/** Aligned columns under their titles, two blanks apart. Cells may hold anything; they are made fit for a terminal. */
export function textTable(columns: readonly TableColumn[], rows: readonly (readonly string[])[]): string[] {
  const cells = [columns.map((column) => column.title), ...rows].map((row) => row.map(printable));
  const widths = columns.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  return cells.map((row) =>
    columns
      .map((column, at) => {
        const cell = row[at] ?? '';
        return column.isNumber === true ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0);
      })
      .join('  ')
      .trimEnd(),
  );
}

import type { Random } from './random.ts';

/** Somebody who does not exist. */
export interface Person {
  name: string;
  /** At example.com, which is nobody's (RFC 2606). */
  email: string;
  /** Of the numbers that are kept for fiction: 555-0100 to 555-0199. */
  phone: string;
}

export function makePerson(random: Random, number: number): Person {
  const [first, last] = [random.pick(FIRST_NAMES), random.pick(LAST_NAMES)];
  return {
    name: `${first} ${last}`,
    email: `${first}.${last}.${number}@example.com`.toLowerCase(),
    phone: `+1${random.between(201, 989)}55501${String(random.between(0, 99)).padStart(2, '0')}`,
  };
}

const FIRST_NAMES = [
  'Ada',
  'Amara',
  'Chen',
  'Diego',
  'Fatima',
  'Ivan',
  'Kofi',
  'Leila',
  'Mia',
  'Nora',
  'Omar',
  'Priya',
  'Sven',
  'Thandi',
  'Yuki',
] as const;
const LAST_NAMES = [
  'Adler',
  'Banda',
  'Castro',
  'Dlamini',
  'Evans',
  'Fischer',
  'Haddad',
  'Ito',
  'Jensen',
  'Kumar',
  'Lopez',
  'Mbeki',
  'Novak',
  'Okafor',
  'Silva',
] as const;

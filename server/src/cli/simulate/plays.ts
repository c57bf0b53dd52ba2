import { CommandError } from '../command-error.ts';
import { callCenterDay } from './call-center.ts';
import { outage } from './isp-communications.ts';
import { ispCustomer } from './isp-framework.ts';
import type { Story } from './story.ts';
import { ticketLife } from './support-autoresponder.ts';
import { campaign } from './whatsapp-crm.ts';

/** What is played for a preset. */
export interface Play {
  preset: string;
  /** What it shows, as it follows "Playing". */
  title: string;
  story: Story;
  /** What one story is called, and several. */
  noun: readonly [one: string, many: string];
  /** Stories that run side by side. */
  atOnce: number;
}

export const PLAYS: readonly Play[] = [
  {
    preset: 'isp-framework',
    title: 'customers of an internet provider, from the sign-up to the unpaid invoice',
    story: ispCustomer,
    noun: ['customer', 'customers'],
    atOnce: 5,
  },
  {
    preset: 'isp-communications',
    title: 'outages of an internet provider, as its customers hear of them',
    story: outage,
    noun: ['outage', 'outages'],
    atOnce: 3,
  },
  { preset: 'call-center', title: 'days of a call centre', story: callCenterDay, noun: ['day', 'days'], atOnce: 1 },
  {
    preset: 'support-autoresponder',
    title: 'tickets of a support desk, from the question to the feedback',
    story: ticketLife,
    noun: ['ticket', 'tickets'],
    atOnce: 4,
  },
  {
    preset: 'whatsapp-crm',
    title: 'campaigns of a WhatsApp CRM, one after the other',
    story: campaign,
    noun: ['campaign', 'campaigns'],
    atOnce: 1,
  },
];

/** @throws CommandError when nothing is played for the preset. */
export function findPlay(preset: string): Play {
  const play = PLAYS.find((each) => each.preset === preset);
  if (play === undefined)
    throw new CommandError(`--preset must be one of ${PLAYS.map((each) => each.preset).join(', ')}.`);
  return play;
}

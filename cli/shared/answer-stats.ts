import type { Finish } from '../../lib/client/index.js'
import { counted, durationText, printFacts } from './output.js'

/** Tokens after the first from which on a speed means something. */
const MIN_TIMED_TOKENS = 4
/** What the clock and the terminal take of less than this says more of them than of the model. */
const MIN_TIMED_MS = 10

export interface Stats {
  finish: Finish
  firstTokenMs: number
  totalMs: number
}

/** Why an answer ends before its end; undefined where it does not. */
export function cutText({ reason, cutBy }: Finish): string | undefined {
  if (reason !== 'length') return undefined
  return cutBy === 'budget' ? 'cut by the budget, which has no more tokens' : 'cut at the longest length'
}

/** One line about an answer: what made it, and how fast. */
export function statsLine(stats: Stats): string {
  const { finish, firstTokenMs, totalMs } = stats
  const { usage, route } = finish
  const rate = rateOf(stats)
  return [
    route === undefined
      ? undefined
      : `${route.model} ${route.quantisation} on ${route.processor} through ${route.gateway}`,
    `first token ${durationText(firstTokenMs)}`,
    `${counted(usage.completionTokens, 'token')} in ${durationText(totalMs)}`,
    rate === undefined ? undefined : `${rateText(rate)} tokens/s`,
  ]
    .filter((part) => part !== undefined)
    .join(' · ')
}

/** Prints all that is known of an answer. */
export function printStats(stats: Stats): void {
  const { finish, firstTokenMs, totalMs } = stats
  const { usage, route, timing } = finish
  const rate = rateOf(stats)
  printFacts([
    [
      'model',
      route === undefined ? '-' : `${route.model} (${route.quantisation}, file ${route.modelHash.slice(0, 12)})`,
    ],
    ['processor', route?.processor ?? '-'],
    ['gateway', route?.gateway ?? '-'],
    ['prompt', `${counted(usage.promptTokens, 'token')}, ${usage.cachedTokens} of them cached`],
    ['answer', `${counted(usage.completionTokens, 'token')}, ${cutText(finish) ?? `ended by ${finish.reason}`}`],
    ['queue', timing === undefined ? '-' : durationText(timing.queueMs)],
    ['first token', durationText(firstTokenMs)],
    ['total', durationText(totalMs)],
    ['speed', rate === undefined ? '-' : `${rateText(rate)} tokens/s`],
  ])
}

/** Tokens per second after the first; undefined where there were too few to say. */
function rateOf({ finish, firstTokenMs, totalMs }: Stats): number | undefined {
  const tokens = finish.usage.completionTokens - 1
  const elapsedMs = totalMs - firstTokenMs
  return tokens >= MIN_TIMED_TOKENS && elapsedMs >= MIN_TIMED_MS ? (tokens * 1000) / elapsedMs : undefined
}

function rateText(rate: number): string {
  return rate < 9.95 ? rate.toFixed(1) : rate.toFixed(0)
}

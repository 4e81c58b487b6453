import type { Rate } from '../requests/index.js'

/** Where the caller stands with its limits for each minute; nothing where it has none. */
export function rateHeaders({ requests, tokens }: { requests?: Rate; tokens?: Rate }): Record<string, string> {
  return { ...headersOf('requests', requests), ...headersOf('tokens', tokens) }
}

function headersOf(what: string, rate: Rate | undefined): Record<string, string> {
  if (rate === undefined) return {}
  return {
    [`x-ratelimit-limit-${what}`]: String(rate.limit),
    [`x-ratelimit-remaining-${what}`]: String(rate.remaining),
    [`x-ratelimit-reset-${what}`]: durationText(rate.resetMs),
  }
}

/** Milliseconds as `1m30s`, `12.5s` or `20ms`. */
export function durationText(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 100) / 10
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${Math.ceil(seconds % 60)}s`
}

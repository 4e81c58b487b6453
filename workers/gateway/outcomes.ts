import { type ErrorCode, type FinishReason, type JournalRecord, journalRecordSchema } from '../../lib/protocol/index.js'

/** How requests end, as the metrics tell it. */

export type RequestCode = FinishReason | ErrorCode

/**
 * By outcome the codes that it has: finish reasons, and codes of errors. `ok` came to its end; `refused` is for its caller
 * to mend; `limited` met a limit or a full queue; `cancelled` had nobody left to read it; `error` is the mesh's fault.
 */
export const OUTCOMES = {
  ok: ['stop', 'length', 'tool_calls'],
  refused: [
    'BAD_REQUEST',
    'CONFLICT',
    'CONTEXT_LENGTH_EXCEEDED',
    'ENGINE_ENDED',
    'FORBIDDEN',
    'MESSAGE_TOO_LARGE',
    'MODEL_NOT_FOUND',
  ],
  limited: ['RATE_LIMITED', 'QUOTA_EXCEEDED', 'QUEUE_FULL'],
  cancelled: ['CANCELLED', 'SLOW_READER'],
  error: [
    'BUSY',
    'DISK_FULL',
    'ENGINE_FAILED',
    'INTERNAL',
    'LINK_CLOSED',
    'NO_PROCESSOR',
    'PROCESSOR_LOST',
    'SHUTTING_DOWN',
    'TIMEOUT',
  ],
} as const satisfies Record<string, readonly RequestCode[]>
export type Outcome = keyof typeof OUTCOMES

/** Every code with its outcome. */
export const CODES: readonly { code: RequestCode; outcome: Outcome }[] = [
  ...OUTCOMES.ok.map((code) => ({ code, outcome: 'ok' as const })),
  ...OUTCOMES.refused.map((code) => ({ code, outcome: 'refused' as const })),
  ...OUTCOMES.limited.map((code) => ({ code, outcome: 'limited' as const })),
  ...OUTCOMES.cancelled.map((code) => ({ code, outcome: 'cancelled' as const })),
  ...OUTCOMES.error.map((code) => ({ code, outcome: 'error' as const })),
]
const OUTCOME_OF = new Map<string, Outcome>(CODES.map(({ code, outcome }) => [code, outcome]))

/** What a code means. One that no request should end with is a fault. */
export function outcomeOf(code: string): Outcome {
  return OUTCOME_OF.get(code) ?? 'error'
}

/** The kinds of requests: the label `route`. */
export const ROUTES: readonly JournalRecord['kind'][] = journalRecordSchema.shape.kind.options

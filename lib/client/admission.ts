import { setTimeout as sleep } from 'node:timers/promises'
import {
  admissionCode,
  type CallOptions,
  commitmentTo,
  type InputOf,
  type Member,
  MeshError,
  type MethodName,
  newNonce,
  type ResponseOf,
} from '../protocol/index.js'

/** How often it is asked whether somebody has said yes. */
const POLL_MS = 1000
/** No request waits longer. */
const MAX_WAIT_MS = 11 * 60_000
/** How long the authority may take to hear that the request is taken back. */
const WITHDRAW_MS = 1000

type Ask = <M extends MethodName>(name: M, body: InputOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>

export interface AdmissionOptions {
  role: InputOf<'admission.ask'>['role']
  name: string
  /** Told the code that an admin must see, and until when the request waits, in milliseconds since the epoch. */
  onCode: (code: string, expiresAt: number) => void
  signal?: AbortSignal | undefined
}

/**
 * Asks the authority for admission, and waits for a person there.
 * @param keys public keys of both ends
 * @throws MeshError FORBIDDEN where it takes no requests, or said no; CONFLICT, BUSY, RATE_LIMITED; TIMEOUT
 */
export async function askAdmission(
  call: Ask,
  keys: { authority: string; applicant: string },
  { role, name, onCode, signal }: AdmissionOptions,
): Promise<Member> {
  const applicantNonce = newNonce()
  const commitment = commitmentTo(applicantNonce, keys.applicant)
  const { nonce: authorityNonce, expiresAt } = await call('admission.ask', { commitment, role, name }, { signal })
  // The two clocks may differ: past this the authority has forgotten the request by any of them.
  const deadline = performance.now() + MAX_WAIT_MS
  try {
    for (let isTold = false; ; ) {
      const { state, member } = await call('admission.wait', { nonce: applicantNonce }, { signal })
      if (member !== undefined) return member
      if (state === 'refused')
        throw MeshError.FORBIDDEN('The mesh does not want this machine: an admin refused the request')
      if (!isTold) onCode(admissionCode({ ...keys, authorityNonce, applicantNonce }), expiresAt)
      isTold = true
      if (performance.now() > deadline) {
        throw MeshError.TIMEOUT('Nobody has accepted the request in time: run `infermesh join` again')
      }
      await sleep(POLL_MS, undefined, { signal })
    }
  } catch (err) {
    if (signal?.aborted) await call('admission.withdraw', {}, { timeoutMs: WITHDRAW_MS }).catch(() => {})
    throw err
  }
}

import type { MeshClient } from '../../lib/client/index.js'
import { complain } from '../../lib/home/index.js'
import { MeshError, type WorkerStatus } from '../../lib/protocol/index.js'
import { statsLine } from '../shared/answer-stats.js'
import { command } from '../shared/hints.js'
import { dim, print, withSpinner, writeAnswer } from '../shared/output.js'

const PROMPT = 'Write a haiku about technology'
const MAX_TOKENS = 48
/** How long a processor of this machine may take to load its model, and the workers to find each other. */
const SERVING_MS = 60_000
/** How long processors of other machines are waited for: they may be off. */
const OTHERS_MS = 5000
/** How long a refused key may come to be known. */
const REFUSED_MS = 3000
const POLL_MS = 50
const NEW_KEY = 'Where the authority runs, delete admin.key and start again: a new key is made'

/**
 * Waits until the mesh can serve, then asks it one question, as a user would, and shows the answer with its route and
 * times.
 * @param options.home the home that started it, for hints
 * @param options.asks false: it only waits
 * @param options.statuses what was started on this machine: with a processor among it the mesh must come to serve
 * @param options.quiet shows nothing
 * @throws MeshError why the mesh does not answer, where it must
 */
export async function selfCheck(
  mesh: MeshClient,
  { home, asks, statuses, quiet }: { home: string; asks: boolean; statuses: WorkerStatus[]; quiet: boolean },
  signal: AbortSignal,
): Promise<void> {
  const hasProcessor = statuses.some(({ role }) => role === 'processor')
  const waitMs = hasProcessor ? SERVING_MS : OTHERS_MS
  const missing = await withSpinner('waiting for a processor', quiet, untilServing(mesh, home, waitMs, signal))
  if (missing?.code === 'INVALID_API_KEY') {
    complain(`infermesh: no first question was asked: ${missing.message}. ${NEW_KEY}`)
    return
  }
  if (missing !== undefined) {
    if (hasProcessor && asks) throw missing
    if (!quiet) print(dim(missing.message))
    return
  }
  if (!asks) return
  const startedAt = performance.now()
  const answer = mesh.chat({ messages: [{ role: 'user', content: PROMPT }], maxTokens: MAX_TOKENS }, { signal })
  const chunks = answer[Symbol.asyncIterator]()
  if (!quiet) print(`${dim('first question')}  ${PROMPT}`)
  let next = await chunks.next()
  const firstTokenMs = performance.now() - startedAt
  for (; !next.done; next = await chunks.next()) if (!quiet) writeAnswer(next.value.text)
  const { finish } = await answer.result
  if (quiet) return
  print()
  print(dim(statsLine({ finish, firstTokenMs, totalMs: performance.now() - startedAt })))
  print()
}

/**
 * Waits until the gateway knows us and a processor has a model.
 * @returns why the mesh does not serve yet; undefined: it does
 */
async function untilServing(
  mesh: MeshClient,
  home: string,
  waitMs: number,
  signal: AbortSignal,
): Promise<MeshError | undefined> {
  const deadline = performance.now() + waitMs
  let refusedSince: number | undefined
  while (true) {
    let reason: MeshError
    try {
      const { models, workers } = await mesh.status({ signal })
      if (models.some(({ processors }) => processors.length > 0)) return undefined
      if (!workers.some(({ role }) => role === 'processor'))
        return MeshError.NO_PROCESSOR(
          `No processor in the mesh yet: ${command('invite --role processor', home)} brings one in`,
        )
      reason = workers.some(({ role, state }) => role === 'processor' && state !== 'down')
        ? MeshError.NO_PROCESSOR(`No processor has loaded a model; ${command('logs processor', home)} may say why`)
        : MeshError.NO_PROCESSOR(
            `No processor of this mesh is connected now; ${command('status', home)} shows when one is`,
          )
    } catch (err) {
      reason = MeshError.from(err)
    }
    if (signal.aborted) throw reason
    // A gateway that has only just begun to read the accounts knows no key yet.
    if (reason.code !== 'INVALID_API_KEY') refusedSince = undefined
    else refusedSince ??= performance.now()
    if (refusedSince !== undefined && performance.now() - refusedSince > REFUSED_MS) return reason
    if (performance.now() > deadline) return reason
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

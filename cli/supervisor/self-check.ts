import { type MeshClient, MeshError } from '../../lib/client/index.js'
import { statsLine } from '../shared/conversation.js'
import { dim, print, withSpinner, writeAnswer } from '../shared/output.js'

const PROMPT = 'Write a haiku about technology'
const MAX_TOKENS = 48
/** How long a processor of this machine may take to load its model, and the workers to find each other. */
const SERVING_MS = 60_000
/** How long processors of other machines are waited for: they may be off. */
const OTHERS_MS = 5000
const POLL_MS = 50

/**
 * Waits until the mesh can serve, then asks it one question, as a user would, and shows the answer with its route and
 * times.
 * @param options.asks false: it only waits
 * @param options.hasProcessor one was started on this machine, so the mesh must come to serve
 * @param options.quiet shows nothing
 * @throws MeshError why the mesh does not answer, where it must
 */
export async function selfCheck(
  mesh: MeshClient,
  { asks, hasProcessor, quiet }: { asks: boolean; hasProcessor: boolean; quiet: boolean },
  signal: AbortSignal,
): Promise<void> {
  const waitMs = hasProcessor ? SERVING_MS : OTHERS_MS
  const missing = await withSpinner('waiting for a processor', quiet, untilServing(mesh, waitMs, signal))
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
async function untilServing(mesh: MeshClient, waitMs: number, signal: AbortSignal): Promise<MeshError | undefined> {
  const deadline = performance.now() + waitMs
  while (true) {
    let reason: MeshError
    try {
      const { models, workers } = await mesh.status({ signal })
      if (models.some(({ processors }) => processors.length > 0)) return undefined
      if (!workers.some(({ role }) => role === 'processor'))
        return MeshError.NO_PROCESSOR('No processor in the mesh yet: `infermesh invite --role processor` brings one in')
      reason = workers.some(({ role, state }) => role === 'processor' && state !== 'down')
        ? MeshError.NO_PROCESSOR('No processor has loaded a model; `infermesh logs processor` may say why')
        : MeshError.NO_PROCESSOR('No processor of this mesh is connected now; `infermesh status` shows when one is')
    } catch (err) {
      reason = MeshError.from(err)
    }
    if (signal.aborted) throw reason
    if (performance.now() > deadline) return reason
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

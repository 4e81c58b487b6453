import { type MeshClient, MeshError } from '../../lib/client/index.js'
import { statsLine } from '../shared/conversation.js'
import { dim, print, withSpinner, writeAnswer } from '../shared/output.js'

const PROMPT = 'Write a haiku about technology'
const MAX_TOKENS = 48
/** How long the workers may take to find each other, and a processor to load its model. */
const SERVING_MS = 60_000
const POLL_MS = 50

/**
 * Waits until the mesh can serve, then asks it one question, as a user would, and shows the answer with its route and
 * times.
 * @param options.asks false: it only waits
 * @param options.quiet shows nothing
 * @throws MeshError why the mesh does not answer
 */
export async function selfCheck(
  mesh: MeshClient,
  { asks, quiet }: { asks: boolean; quiet: boolean },
  signal: AbortSignal,
): Promise<void> {
  const serving = await withSpinner('waiting for a processor', quiet, untilServing(mesh, signal))
  if (!serving) {
    if (!quiet) print(dim('No processor in the mesh yet: `infermesh invite --role processor` brings one in.'))
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
 * @returns false where the mesh has no processor to wait for
 */
async function untilServing(mesh: MeshClient, signal: AbortSignal): Promise<boolean> {
  const deadline = Date.now() + SERVING_MS
  while (true) {
    let reason: MeshError
    try {
      const { models, workers } = await mesh.status({ signal })
      if (models.some(({ processors }) => processors.length > 0)) return true
      if (!workers.some(({ role }) => role === 'processor')) return false
      reason = MeshError.NO_PROCESSOR('No processor has loaded a model; `infermesh logs processor` may say why')
    } catch (err) {
      reason = MeshError.from(err)
    }
    if (signal.aborted || Date.now() > deadline) throw reason
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

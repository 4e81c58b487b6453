import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { MeshError } from '../../../lib/protocol/index.js'
import type { ThreadAnswer, ThreadJob } from '../http/index.js'
import { isBodyKind, prepare } from './prepare.js'

/** A thread that prepares large bodies, so that the gateway's loop does not. */

/** Of a busy processor's time the loop gets the larger part. */
const NICE = 10

// Linux takes it for this thread alone, other systems for the whole process.
if (process.platform === 'linux') setPriority(NICE)

parentPort?.on('message', (job: ThreadJob) => parentPort?.postMessage(answerTo(job)))

function answerTo({ kind, bytes }: ThreadJob): ThreadAnswer<unknown> {
  try {
    if (!isBodyKind(kind)) throw new Error(`no body is of the kind ${kind}`)
    return { value: prepare(kind, bytes) }
  } catch (err) {
    return { error: MeshError.from(err).toJSON() }
  }
}

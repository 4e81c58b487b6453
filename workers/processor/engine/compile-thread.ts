import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { MeshError } from '../../../lib/errors/index.js'
import { compile } from './compile.js'
import type { Compiled } from './compiler.js'

/** The thread that compiles grammars, one after another, so that no schema holds up what is being generated. */

/** Of a busy processor's time those who are answered get the larger part. */
const NICE = 10

// Linux takes it for this thread alone, other systems for the whole process.
if (process.platform === 'linux') setPriority(NICE)

parentPort?.on('message', (source: string) => parentPort?.postMessage(outcome(source)))

function outcome(source: string): Compiled {
  try {
    return { program: compile(JSON.parse(source)) }
  } catch (err) {
    // A value nested so deep that JSON cannot be read or written: the only recursion that is not counted.
    const failure = err instanceof RangeError ? MeshError.BAD_REQUEST('The schema is nested too deep') : err
    return { error: MeshError.from(failure).toJSON() }
  }
}

import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { Template } from '@huggingface/jinja'
import { messageOf } from '../../../../lib/errors/index.js'

/** What a template's thread is started with. */
export interface TemplateThreadData {
  source: string
  /** 1 once an answer lies at the port. */
  done: Int32Array
  port: MessagePort
  /** Most characters that a template may write besides twice what it was given. */
  addedChars: number
}

/** What the thread answers to the JSON of a template's variables. */
export type Rendered = { text: string } | { error: string; tooLong: boolean }

const { source, done, port, addedChars }: TemplateThreadData = workerData
let template: Template | undefined

function rendered(variables: string): Rendered {
  try {
    template ??= new Template(source)
    const text = template.render(JSON.parse(variables))
    const most = addedChars + 2 * variables.length
    if (text.length <= most) return { text }
    return { error: `it writes ${text.length} characters where at most ${most} are taken`, tooLong: true }
  } catch (err) {
    return { error: messageOf(err), tooLong: false }
  }
}

port.on('message', (variables: string) => {
  port.postMessage(rendered(variables))
  Atomics.store(done, 0, 1)
  Atomics.notify(done, 0)
})
parentPort?.postMessage('ready')

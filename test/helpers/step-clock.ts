import { readFileSync } from 'node:fs'

/**
 * Loaded before a program (`--import`): makes its wall clock differ by as many milliseconds as the file that
 * INFERMESH_TEST_CLOCK names says at any time. What counts durations by another clock does not notice.
 */

const file = process.env.INFERMESH_TEST_CLOCK
const RealDate = Date
let offsetMs = 0

function look(): void {
  try {
    offsetMs = Number(readFileSync(file ?? '', 'utf8'))
  } catch {
    // Not stepped yet.
  }
}

if (file !== undefined) {
  look()
  setInterval(look, 20).unref()
  const now = () => RealDate.now() + offsetMs
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
    apply: () => new RealDate(now()).toString(),
    get: (target, name, receiver) => (name === 'now' ? now : Reflect.get(target, name, receiver)),
  })
}

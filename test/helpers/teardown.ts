import type { Test } from 'brittle'

/** Above every order that a test gives itself, so that what a test makes is gone before what a kit started ends. */
let order = 1_000_000

/** Runs `end` after the test. What was started last ends first. */
export function onTeardown(t: Pick<Test, 'teardown'>, end: () => unknown): void {
  t.teardown(end, { order: --order })
}

import { spawnSync } from 'node:child_process'
import test, { type Test } from 'brittle'

/**
 * What is missing of the programs that a test needs; undefined where all are there.
 * @param commands each a program and what makes it say its version, such as `curl --version`
 */
export function missingProgram(...commands: string[]): string | undefined {
  const missing = commands
    .map((command) => command.split(' ') as [string, ...string[]])
    .filter(([program, ...args]) => spawnSync(program, args, { stdio: 'ignore' }).status !== 0)
    .map(([program]) => program)
  return missing.length === 0 ? undefined : `there is no ${missing.join(' and no ')} here`
}

/**
 * A test that cannot run everywhere. Where something is missing it counts as skipped, and the run lists it with the reason.
 * @param missing why it cannot run here; undefined where it can
 */
export function testUnless(
  missing: string | undefined,
  name: string,
  options: { timeout?: number },
  body: (t: Test) => Promise<void>,
): void {
  if (missing === undefined) test(name, options, body)
  else test(`${name} (${missing})`, { skip: true }, body)
}

#!/usr/bin/env node
import { CommanderError } from 'commander'
import { makeProgram } from './program.js'
import { printError } from './shared/errors.js'

async function main(args: string[]): Promise<void> {
  // The scripts know every command; what they ask for values needs none.
  const all = args.includes('completion') && !args.includes('--values')
  const program = await makeProgram((name) => all || args.includes(name))
  if (args.length === 0) {
    program.outputHelp()
    return
  }
  await program.parseAsync(args, { from: 'user' })
}

// A command whose errors nobody reads goes on.
process.stderr.on('error', () => {})
process.stdout.on('error', (err: NodeJS.ErrnoException) => {
  // Whoever read the output has seen enough, as `head` does.
  if (err.code === 'EPIPE') process.exit(0)
})

const args = process.argv.slice(2)
const json = args.includes('--json')
let done = false
// Nothing is under way that could bring what the command waits for. Node would end here as if all were well.
process.once('beforeExit', () => {
  if (!done) process.exitCode = printError(new Error('the command waits for what nothing can bring'), json)
})
main(args)
  .catch((err: unknown) => {
    // Help and version were printed: commander says so by a throw.
    if (err instanceof CommanderError && err.exitCode === 0) return
    process.exitCode = printError(err, json)
  })
  .finally(() => {
    done = true
  })

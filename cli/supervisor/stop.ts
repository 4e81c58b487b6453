import type { Supervisor } from './supervisor.js'

/** How a person or a program has a supervisor stop. */
export type Stop = ReturnType<typeof stopOnSignal>

/** The first SIGINT or SIGTERM asks for a stop in order, the second ends everything at once. */
export function stopOnSignal(supervisor: Supervisor) {
  let requested = false
  let request: () => void = () => {}
  const promise = new Promise<void>((resolve) => {
    request = resolve
  })
  const onSignal = () => {
    if (requested) {
      supervisor.kill()
      process.exit(130)
    }
    requested = true
    request()
    // Also where the start is still under way.
    void supervisor.stop()
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  return {
    requested: promise,
    isRequested: () => requested,
    /** SIGTERM asks still. */
    leaveInterrupts: () => {
      process.off('SIGINT', onSignal)
    },
    release: () => {
      process.off('SIGTERM', onSignal)
      process.off('SIGINT', onSignal)
    },
  }
}

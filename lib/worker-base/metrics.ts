import { collectDefaultMetrics, Gauge, type Registry } from 'prom-client'
import type { BeeView } from '../store/index.js'

/** What every worker tells of its process, of the version that runs, of its disk, and of what it cannot read of its stores. */
export function registerWorkerMetrics(
  registry: Registry,
  version: string,
  views: Iterable<BeeView>,
  disk: { readonly freeBytes: number | undefined },
): void {
  collectDefaultMetrics({ register: registry })
  // Gauges with a counter's name, and nothing but sums of the series by type.
  for (const name of ['handles', 'requests', 'resources']) registry.removeSingleMetric(`nodejs_active_${name}_total`)
  new Gauge({
    name: 'infermesh_build_info',
    help: 'Always 1; the labels say what runs.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version, node: process.version }, 1)
  new Gauge({
    name: 'infermesh_disk_free_bytes',
    help: 'Free room of the disk that the worker’s stores lie on.',
    registers: [registry],
    collect() {
      if (disk.freeBytes !== undefined) this.set(disk.freeBytes)
    },
  })
  new Gauge({
    name: 'infermesh_store_unreadable_entries',
    help: 'Entries of a store that this worker cannot read, because a later version wrote them or they are damaged.',
    labelNames: ['store'],
    registers: [registry],
    collect() {
      for (const { store, unreadable } of views) this.set({ store }, unreadable.size)
    },
  })
}

export { MetricsWorker } from './worker.js'

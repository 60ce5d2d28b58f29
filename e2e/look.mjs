// Opens pages with a certificate, or without, and tells what they say.
import { answer, heading, person, readJob } from './lib.mjs'

const job = await readJob()
const certificate = job.p12 && { clientCertificates: [{ origin: job.site, pfxPath: job.p12, passphrase: job.password }] }
const context = await person({ ignoreHTTPSErrors: !!certificate, ...certificate })
const page = await context.newPage()
const pages = []
for (const path of job.paths) {
  const response = await page.goto(job.site + path)
  const status = await page.locator('main [role=status] h2').first().innerText().catch(() => '')
  pages.push({ status: response.status(), heading: await heading(page), says: status, text: await page.locator('main').innerText() })
}
answer({ pages })
await context.close()

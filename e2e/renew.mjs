// Renews with a certificate as a person does: looks, applies, confirms, submits, waits,
// gets the key, saves. It clicks twice, goes back and reloads on the way.
import { answer, arrive, heading, person, readJob, save, saveLink } from './lib.mjs'

const job = await readJob()
const certificate = job.p12 && { clientCertificates: [{ origin: job.site, pfxPath: job.p12, passphrase: job.password }] }
const context = await person({ ignoreHTTPSErrors: !!certificate, javaScriptEnabled: job.javaScript !== false, ...certificate })
const page = await context.newPage()
const problems = []
page.on('pageerror', (e) => problems.push('script: ' + e.message))
const seen = []
const at = async (what) => { seen.push(`${what}: ${await heading(page)}`) }
const settle = () => page.waitForLoadState()

await page.goto(job.site + '/p/ru')
await at('home')
await page.locator('button[value=apply]').click()
await settle()
await at('apply')
const submit = page.locator('button[value=submit]')
if (job.javaScript === false) await submit.click()
else await submit.dblclick()
await arrive(page, /\/p\/ru\/r\//)
await at('done')

// With JavaScript the page shows by itself that it is issued, else by a reload.
const pin = page.locator('[name=password]')
for (let n = 0; job.javaScript === false && n < 60 && !(await pin.count()); n++) {
  await page.waitForTimeout(500)
  await page.reload()
}
await pin.waitFor({ timeout: 30_000 })
const request = page.url().split('/').pop()
await page.goBack()
await settle()
await at('back')
await page.goto(job.site + '/p/ru/apply') // it is renewed already: this leads to the renewal
if (!page.url().endsWith('/p/ru/r/' + request)) problems.push('apply again leads to ' + page.url())
await page.reload()

await page.fill('[name=password]', '12')
await page.fill('[name=passwordConfirm]', '12')
await page.locator('form:has([name=password]) [type=submit]').click()
await settle()
await at('short PIN')
await page.fill('[name=password]', job.pin)
await page.fill('[name=passwordConfirm]', job.pin)
await page.locator('form:has([name=password]) [type=submit]').click()
await saveLink(page).waitFor()
await at('file')
const fileName = await save(page, job.file)
await page.reload()
await at('reload')
await page.goto(job.site + '/p/ru')
const again = await page.locator('button[value=apply]').count()
if (again) problems.push('the first page offers to renew again')
await page.locator('button[value=list]').click()
await settle()
await at('list')
const rows = await page.locator('tbody tr').count()
answer({ request, fileName, seen, problems, rows })
await context.close()

// Winchain asks Windows, or Wine, what it thinks of certificate chains. It reads
// lines "USAGE ANCHOR LEAF [INTERMEDIATE...]" (files in DER; USAGE any, client or
// server) and answers each with "OK" or "NO status". The anchor is trusted for this
// question only: nothing is installed.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	crypt32      = windows.NewLazySystemDLL("crypt32.dll")
	createEngine = crypt32.NewProc("CertCreateCertificateChainEngine")
	freeEngine   = crypt32.NewProc("CertFreeCertificateChainEngine")
)

// cacheOnly is CERT_CHAIN_CACHE_ONLY_URL_RETRIEVAL: no network.
const cacheOnly = 4

// engineConfig is CERT_CHAIN_ENGINE_CONFIG up to hExclusiveTrustedPeople.
type engineConfig struct {
	size                   uint32
	restrictedRoot         windows.Handle
	restrictedTrust        windows.Handle
	restrictedOther        windows.Handle
	additionalStores       uint32
	additionalStore        *windows.Handle
	flags                  uint32
	urlRetrievalTimeout    uint32
	maximumCached          uint32
	cycleDetectionModulus  uint32
	exclusiveRoot          windows.Handle
	exclusiveTrustedPeople windows.Handle
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		err := check(words[0], words[1], words[2:])
		if err != nil {
			fmt.Println("NO", err)
			continue
		}
		fmt.Println("OK")
	}
}

func read(file string) (*windows.CertContext, error) {
	der, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return windows.CertCreateCertificateContext(windows.X509_ASN_ENCODING|windows.PKCS_7_ASN_ENCODING, &der[0], uint32(len(der)))
}

func memoryStore(files []string) (windows.Handle, error) {
	store, err := windows.CertOpenStore(windows.CERT_STORE_PROV_MEMORY, 0, 0, windows.CERT_STORE_CREATE_NEW_FLAG, 0)
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		context, err := read(file)
		if err != nil {
			return 0, err
		}
		err = windows.CertAddCertificateContextToStore(store, context, windows.CERT_STORE_ADD_ALWAYS, nil)
		if err != nil {
			return 0, err
		}
	}
	return store, nil
}

func check(usage, anchor string, chain []string) error {
	roots, err := memoryStore([]string{anchor})
	if err != nil {
		return err
	}
	others, err := memoryStore(chain[1:])
	if err != nil {
		return err
	}
	leaf, err := read(chain[0])
	if err != nil {
		return err
	}
	config := engineConfig{exclusiveRoot: roots}
	config.size = uint32(unsafe.Sizeof(config))
	var engine windows.Handle
	ok, _, err := createEngine.Call(uintptr(unsafe.Pointer(&config)), uintptr(unsafe.Pointer(&engine)))
	if ok == 0 {
		return fmt.Errorf("make engine: %w", err)
	}
	defer freeEngine.Call(uintptr(engine))
	var para windows.CertChainPara
	para.Size = uint32(unsafe.Sizeof(para))
	oids := map[string]string{"client": "1.3.6.1.5.5.7.3.2", "server": "1.3.6.1.5.5.7.3.1"}
	if oids[usage] != "" {
		oid, err := windows.BytePtrFromString(oids[usage])
		if err != nil {
			return err
		}
		para.RequestedUsage.Usage = windows.CertEnhKeyUsage{Length: 1, UsageIdentifiers: &oid}
	}
	var built *windows.CertChainContext
	err = windows.CertGetCertificateChain(engine, leaf, nil, others, &para, cacheOnly, 0, &built)
	if err != nil {
		return fmt.Errorf("build chain: %w", err)
	}
	defer windows.CertFreeCertificateChain(built)
	policy := windows.CertChainPolicyPara{}
	policy.Size = uint32(unsafe.Sizeof(policy))
	status := windows.CertChainPolicyStatus{}
	status.Size = uint32(unsafe.Sizeof(status))
	err = windows.CertVerifyCertificateChainPolicy(windows.CERT_CHAIN_POLICY_BASE, built, &policy, &status)
	if err != nil {
		return fmt.Errorf("ask policy: %w", err)
	}
	if built.TrustStatus.ErrorStatus != 0 || status.Error != 0 {
		return fmt.Errorf("chain status %#x, policy %#x", built.TrustStatus.ErrorStatus, status.Error)
	}
	return nil
}

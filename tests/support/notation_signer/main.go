// Signs a payload with notation-core-go: `notation-signer MEDIA_TYPE KEY CHAIN EXPIRY_SECONDS`.
// Key and chain are PEM files; the payload is standard input, the envelope standard output.
package main

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	_ "github.com/notaryproject/notation-core-go/signature/jws"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	key, _ := pem.Decode(must(os.ReadFile(os.Args[2])))
	var chain []*x509.Certificate
	for rest := must(os.ReadFile(os.Args[3])); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		chain = append(chain, must(x509.ParseCertificate(block.Bytes)))
	}
	signer := must(signature.NewLocalSigner(chain, must(x509.ParsePKCS8PrivateKey(key.Bytes))))
	request := &signature.SignRequest{
		Payload: signature.Payload{
			ContentType: "application/vnd.cncf.notary.payload.v1+json",
			Content:     must(io.ReadAll(os.Stdin)),
		},
		Signer:        signer,
		SigningTime:   time.Now(),
		SigningScheme: signature.SigningSchemeX509,
		SigningAgent:  "crisper-tests",
	}
	if seconds := must(strconv.Atoi(os.Args[4])); seconds > 0 {
		request.Expiry = time.Now().Add(time.Duration(seconds) * time.Second)
	}
	envelope := must(signature.NewEnvelope(os.Args[1]))
	must(os.Stdout.Write(must(envelope.Sign(request))))
}

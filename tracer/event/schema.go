package event

import _ "embed"

//go:generate go run ./schemagen

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of one line, made from the types and comments of this package. It allows
// members and types that it does not know, as readers must.
func Schema() []byte { return append([]byte(nil), schema...) }

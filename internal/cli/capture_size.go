package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a flag of bytes: 500000, 64KB, 10MB, 1GB, in powers of 1000, or
// 64KiB, 10MiB, 1GiB in powers of 1024.
type byteSize int64

// String is the number of bytes.
func (b *byteSize) String() string { return strconv.FormatInt(int64(*b), 10) }

// Type is what the help calls the value.
func (b *byteSize) Type() string { return "size" }

// Set takes a value from the command line.
func (b *byteSize) Set(s string) error {
	digits := strings.TrimRight(s, "KMGTkmgtiIbB")
	n, err := strconv.ParseUint(digits, 10, 63)
	factor, known := map[string]uint64{
		"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
	}[strings.ToLower(s[len(digits):])]
	if err != nil || !known || n > math.MaxInt64/factor {
		return fmt.Errorf("must be a size such as 500000, 10MB or 64MiB")
	}
	*b = byteSize(n * factor)
	return nil
}

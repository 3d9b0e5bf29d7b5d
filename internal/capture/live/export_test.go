package live

// Cooked captures as if the device were of an unknown kind.
func Cooked(c Config) Config {
	c.cooked = true
	return c
}

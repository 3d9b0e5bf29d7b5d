package redirect

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// bufferSize of a transaction and of its receipts, in bytes: several thousand
// rules, as a host with a thousand ports has.
const bufferSize = 16 << 20

// open connects to nftables of the calling thread's namespace.
func open() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(bufferSize), c.SetReadBuffer(bufferSize))
	}))
	if err != nil {
		return nil, fmt.Errorf("redirect: nftables: %w", err)
	}
	return conn, nil
}

var table = &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}

// Apply makes the network namespace of the calling thread hold what the
// configuration says, whatever it held before, in one transaction: no packet
// sees half of it. What is remembered of connections is kept.
func Apply(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	// The route first: a mark without one would only be dropped.
	routing, err := openRouting()
	if err != nil {
		return err
	}
	if err := routing.apply(); err != nil {
		return err
	}
	return Plan(c).apply()
}

// Remove takes everything of ours out of the network namespace of the calling
// thread. Nothing there is no error.
func Remove() error {
	// The table first: it fails closed without the route.
	failed := removeTable()
	routing, err := openRouting()
	if err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(failed, routing.remove())
}

func (r Ruleset) apply() error {
	conn, err := open()
	if err != nil {
		return err
	}
	held, err := read(conn)
	if err != nil {
		return err
	}
	conn.AddTable(table)
	conn.FlushTable(table)
	for _, c := range held.chains {
		conn.DelChain(c)
	}
	for _, s := range held.maps {
		if !r.wants(s) {
			conn.DelSet(s)
		}
	}
	for i, m := range r.maps {
		if err := conn.AddSet(m.set(uint32(i+1)), nil); err != nil {
			return fmt.Errorf("redirect: map %s: %w", m.name, err)
		}
	}
	for _, c := range r.chains {
		kernel := conn.AddChain(c.hook.chain())
		for _, rule := range c.rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: kernel, Exprs: rule.exprs()})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("redirect: write table %s: %w", Table, err)
	}
	return nil
}

func removeTable() error {
	conn, err := open()
	if err != nil {
		return err
	}
	conn.DelTable(table)
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("redirect: delete table %s: %w", Table, err)
	}
	return nil
}

// chain is the hook as the library writes it.
func (h hook) chain() *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Name: h.name, Table: table, Type: nftables.ChainType(h.kind),
		Hooknum: nftables.ChainHookRef(nftables.ChainHook(h.num)), Priority: nftables.ChainPriorityMangle, Policy: &policy,
	}
}

// set is the map as the library writes it; id is its number in the transaction.
func (m flowMap) set(id uint32) *nftables.Set {
	address := nftables.TypeIPAddr
	if m.address.words == 4 {
		address = nftables.TypeIP6Addr
	}
	return &nftables.Set{
		ID: id, Name: m.name, Table: table,
		IsMap: true, Dynamic: true, Concatenation: true,
		HasTimeout: true, Timeout: flowTimeout, Size: flowLimit,
		KeyType:      nftables.MustConcatSetType(address, nftables.TypeInetService, address, nftables.TypeInetService),
		DataType:     nftables.TypeMark,
		KeyByteOrder: binaryutil.BigEndian,
	}
}

// wants reports whether a set that the kernel holds is one of the ruleset's maps.
func (r Ruleset) wants(held *nftables.Set) bool {
	for i, m := range r.maps {
		want := m.set(uint32(i + 1))
		if held.Name == want.Name {
			return held.IsMap && held.Dynamic && held.Timeout == want.Timeout && held.Size == want.Size &&
				held.KeyType.Bytes == want.KeyType.Bytes && held.KeyType.GetNFTMagic() == want.KeyType.GetNFTMagic() &&
				held.DataType.GetNFTMagic() == want.DataType.GetNFTMagic()
		}
	}
	return false
}

"""The batch runtime: a host of the scheduler core over asyncio, with a store that loses nothing."""
